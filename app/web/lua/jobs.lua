-- The life of a job, each step of it at once or not at all: queued -> running -> done, failed or cancelled.
-- KEYS[1]: the prefix of all keys. ARGV[1]: the step; the rest are its arguments. Times are Redis's own, in milliseconds:
-- hosts need not agree on the clock.
--
-- PREFIX:ID            hash: what is known of the job
-- PREFIX:result:ID     list: its result; PREFIX:result:ID:TOKEN while one worker still writes it
-- PREFIX:all           sorted set of ids, by the time of submission
-- PREFIX:queued        by priority, then by the time of submission
-- PREFIX:running       by the time at which the lease ends
-- PREFIX:done, PREFIX:failed, PREFIX:cancelled     by the time of the end
-- PREFIX:results       the done ones by the index of their first term

local prefix = KEYS[1] .. ':'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function set(state)
    return prefix .. state
end

local function field(id, name)
    return redis.call('HGET', prefix .. id, name)
end

local function holds(id, token)
    return field(id, 'state') == 'running' and field(id, 'token') == token
end

local function move(id, state, score)
    local before = field(id, 'state')
    if before then
        redis.call('ZREM', set(before), id)
    end
    redis.call('HSET', prefix .. id, 'state', state)
    redis.call('ZADD', set(state), score, id)
end

-- Priority first, then who came first; a number below 2^53, so that a sorted set keeps it exactly.
local function place_in_queue(id)
    return field(id, 'priority') * 1e13 + field(id, 'submitted')
end

local function finish(id, state, error)
    local token = field(id, 'token')
    if token then
        redis.call('UNLINK', prefix .. 'result:' .. id .. ':' .. token)
    end
    redis.call('HSET', prefix .. id, 'finished', now, 'error', error)
    redis.call('HDEL', prefix .. id, 'token')
    move(id, state, now)
end

local function remove(id)
    redis.call('ZREM', set(field(id, 'state')), id)
    redis.call('ZREM', set('all'), id)
    redis.call('ZREM', set('results'), id)
    redis.call('UNLINK', prefix .. id, prefix .. 'result:' .. id)
end

local steps = {}

-- Queue a job unless it is there already; one that failed or was cancelled, or whose result is gone, begins anew.
function steps.submit(id, start, count, queue, priority, backlog)
    local state = field(id, 'state')
    if state == 'queued' or state == 'running' then
        return {state, 0}
    end
    if state == 'done' and redis.call('EXISTS', prefix .. 'result:' .. id) == 1 then
        return {state, 0}
    end
    if redis.call('ZCARD', set('queued')) >= tonumber(backlog) then
        return {'full', 0}
    end
    if state then
        remove(id)
    end
    redis.call('HSET', prefix .. id, 'start', start, 'count', count, 'queue', queue, 'priority', priority, 'submitted', now,
        'published', now, 'progress', 0, 'attempts', 0)
    redis.call('ZADD', set('all'), now, id)
    move(id, 'queued', place_in_queue(id))
    return {'queued', 1}
end

-- Take a queued job for as long as the lease lasts.
function steps.claim(id, token, lease)
    if field(id, 'state') ~= 'queued' then
        return false
    end
    redis.call('HSET', prefix .. id, 'token', token, 'started', now, 'progress', 0)
    redis.call('HINCRBY', prefix .. id, 'attempts', 1)
    move(id, 'running', now + lease)
    return {field(id, 'start'), field(id, 'count')}
end

-- Prolong the lease of a worker that lives; 0 if it works for nothing: the job is gone, cancelled or another's.
function steps.renew(id, token, lease)
    if holds(id, token) then
        redis.call('ZADD', set('running'), now + lease, id)
        return 1
    end
    local state = field(id, 'state')
    if not state or state == 'cancelled' or state == 'running' then
        return 0
    end
    return 1
end

function steps.progress(id, token, fraction)
    if holds(id, token) then
        redis.call('HSET', prefix .. id, 'progress', fraction)
        return 1
    end
    return 0
end

function steps.done(id, token, expiry)
    if not holds(id, token) then
        return 0
    end
    local result = prefix .. 'result:' .. id
    redis.call('RENAME', result .. ':' .. token, result)
    redis.call('EXPIRE', result, expiry)
    redis.call('HSET', prefix .. id, 'progress', 1)
    redis.call('ZADD', set('results'), field(id, 'start'), id)
    finish(id, 'done', '')
    return 1
end

function steps.failed(id, token, error)
    if not holds(id, token) then
        return 0
    end
    finish(id, 'failed', error)
    return 1
end

-- Cancel a job that has not ended, remove one that has; returns the state it was in.
function steps.delete(id)
    local state = field(id, 'state')
    if state == 'queued' or state == 'running' then
        finish(id, 'cancelled', '')
    elseif state then
        remove(id)
    end
    return state
end

-- Remove up to 1,000 jobs that have ended in a state: so many that Redis is not held up.
function steps.delete_all(state)
    local ids = redis.call('ZRANGE', set(state), 0, 999)
    for _, id in ipairs(ids) do
        remove(id)
    end
    return #ids
end

-- Put right what died: leases that ran out, messages that were lost, and what has expired. Returns the ids and queues
-- of jobs that need a message.
function steps.sweep(attempts, limit, expiry, republish)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', set('running'), '-inf', now, 'LIMIT', 0, 100)) do
        if now - field(id, 'started') > limit * 1000 then
            finish(id, 'failed', 'It took longer than ' .. limit .. ' seconds.')
        elseif tonumber(field(id, 'attempts')) >= tonumber(attempts) then
            finish(id, 'failed', 'Its worker died ' .. attempts .. ' times.')
        else
            redis.call('UNLINK', prefix .. 'result:' .. id .. ':' .. field(id, 'token'))
            redis.call('HSET', prefix .. id, 'published', 0, 'progress', 0)
            redis.call('HDEL', prefix .. id, 'token', 'started')
            move(id, 'queued', place_in_queue(id))
        end
    end
    for _, state in ipairs({'done', 'failed', 'cancelled'}) do
        local expired = redis.call('ZRANGEBYSCORE', set(state), '-inf', now - expiry * 1000, 'LIMIT', 0, 100)
        for _, id in ipairs(expired) do
            remove(id)
        end
    end
    local unheard = {}
    -- The first in the queue alone: those behind them wait for workers, not for messages.
    for _, id in ipairs(redis.call('ZRANGE', set('queued'), 0, 9)) do
        if now - field(id, 'published') > republish * 1000 then
            redis.call('HSET', prefix .. id, 'published', now)
            table.insert(unheard, id)
            table.insert(unheard, field(id, 'queue'))
        end
    end
    return unheard
end

return steps[ARGV[1]](unpack(ARGV, 2))
