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
--
-- What stands under these names may be anything: what is not as written here goes, so that it stops nothing.
-- In each step the first write is one that a full Redis refuses, so that it refuses the step and not half of it.

local prefix = KEYS[1] .. ':'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function set(state)
    return prefix .. state
end

local function field(id, name)
    return redis.call('HGET', prefix .. id, name)
end

local sets = {'all', 'queued', 'running', 'done', 'failed', 'cancelled', 'results'}

local function drop_unless(kind, key)
    local found = redis.call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
        redis.call('UNLINK', key)
    end
end

for _, name in ipairs(sets) do
    drop_unless('zset', set(name))
end

local function is_time(text)
    return text and #text <= 13 and text:find('^%d+$')
end

-- Return the state of a job whose hash is as this script writes it, else nothing.
local function sound(id)
    local found = redis.call('HMGET', prefix .. id, 'state', 'start', 'count', 'queue', 'priority', 'submitted', 'published',
        'attempts', 'progress', 'started', 'finished', 'token')
    local state, start, count, queue, priority, submitted, published, attempts, progress, started, finished, token =
        unpack(found)
    local is_sound = start and count and start .. '-' .. count == id and (queue == 'short' or queue == 'long')
        and is_time(priority) and #priority == 1 and is_time(submitted) and is_time(published) and is_time(attempts)
        and progress and progress:find('^[01]%.?%d*$') and tonumber(progress) <= 1 and (not started or is_time(started))
        and (not finished or is_time(finished))
    local ended = state == 'done' or state == 'failed' or state == 'cancelled'
    if is_sound and (state == 'queued' or state == 'running' and started and token or ended and finished) then
        return state
    end
    return false
end

-- Return the state of a job, false if there is none; one that is damaged goes.
local function state_of(id)
    drop_unless('hash', prefix .. id)
    local state = sound(id)
    if not state then
        for _, name in ipairs(sets) do
            redis.call('ZREM', set(name), id)
        end
        redis.call('UNLINK', prefix .. id)
    end
    return state
end

-- Return up to a number of the jobs of a state, lowest scores up to a highest first.
local function jobs_in(state, highest, number)
    local ids = {}
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', set(state), '-inf', highest, 'LIMIT', 0, number)) do
        if state_of(id) == state then
            table.insert(ids, id)
        else
            redis.call('ZREM', set(state), id)
        end
    end
    return ids
end

local function holds(id, token)
    return state_of(id) == 'running' and field(id, 'token') == token
end

local function move(id, state, score)
    local before = field(id, 'state')
    redis.call('HSET', prefix .. id, 'state', state)
    if before then
        redis.call('ZREM', set(before), id)
    end
    redis.call('ZADD', set(state), score, id)
end

-- Priority first, then who came first; a number below 2^53, so that a sorted set keeps it exactly.
local function place_in_queue(id)
    return field(id, 'priority') * 1e13 + field(id, 'submitted')
end

local function finish(id, state, error)
    local token = field(id, 'token')
    redis.call('HSET', prefix .. id, 'finished', now, 'error', error)
    if token then
        redis.call('UNLINK', prefix .. 'result:' .. id .. ':' .. token)
    end
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
    local state = state_of(id)
    -- One that a set has lost would wait for ever, and its result not be found.
    if state and redis.call('ZSCORE', set(state), id) then
        local is_there = state == 'done' and redis.call('ZSCORE', set('results'), id)
            and redis.call('EXISTS', prefix .. 'result:' .. id) == 1
        if state == 'queued' or state == 'running' or is_there then
            return {state, 0}
        end
    end
    if redis.call('ZCARD', set('queued')) >= tonumber(backlog) then
        return {'full', 0}
    end
    redis.call('HSET', prefix .. id, 'start', start, 'count', count, 'queue', queue, 'priority', priority, 'submitted', now,
        'published', now, 'progress', 0, 'attempts', 0)
    redis.call('HDEL', prefix .. id, 'started', 'finished', 'error', 'token')
    redis.call('ZREM', set('results'), id)
    redis.call('UNLINK', prefix .. 'result:' .. id)
    redis.call('ZADD', set('all'), now, id)
    move(id, 'queued', place_in_queue(id))
    return {'queued', 1}
end

-- Take a queued job for as long as the lease lasts. Who has it already, and did not hear so, is told again.
function steps.claim(id, token, lease)
    if holds(id, token) then
        return {field(id, 'start'), field(id, 'count')}
    end
    if state_of(id) ~= 'queued' then
        return false
    end
    redis.call('HSET', prefix .. id, 'token', token, 'started', now, 'progress', 0)
    redis.call('HINCRBY', prefix .. id, 'attempts', 1)
    redis.call('UNLINK', prefix .. 'result:' .. id .. ':' .. token)
    move(id, 'running', now + lease)
    return {field(id, 'start'), field(id, 'count')}
end

-- Prolong the lease of a worker that lives; 0 if it works for nothing: the job is gone, cancelled or another's.
function steps.renew(id, token, lease)
    if holds(id, token) then
        redis.call('ZADD', set('running'), now + lease, id)
        return 1
    end
    local state = state_of(id)
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

-- Append entries to the result that a worker writes, after as many as it has written. Returns 1, also where they are
-- there already and it did not hear so; 0 if the job is not its own any more; -1 if what it has written is lost.
function steps.append(id, token, first, expiry, ...)
    if not holds(id, token) then
        return 0
    end
    local key = prefix .. 'result:' .. id .. ':' .. token
    drop_unless('list', key)
    local length = redis.call('LLEN', key)
    if length == first + select('#', ...) then
        return 1
    elseif length ~= tonumber(first) then
        return -1
    end
    redis.call('RPUSH', key, ...)
    redis.call('EXPIRE', key, expiry)
    return 1
end

-- Make the list of so many entries that a worker has written the result. Returns as append does.
function steps.done(id, token, length, expiry)
    if not holds(id, token) then
        return 0
    end
    local result = prefix .. 'result:' .. id
    local written = result .. ':' .. token
    drop_unless('list', written)
    if redis.call('LLEN', written) ~= tonumber(length) then
        return -1
    end
    redis.call('HSET', prefix .. id, 'progress', 1)
    redis.call('RENAME', written, result)
    redis.call('EXPIRE', result, expiry)
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
    local state = state_of(id)
    if state == 'queued' or state == 'running' then
        finish(id, 'cancelled', '')
    elseif state then
        remove(id)
    end
    return state
end

-- Remove a job whose result was found to be lost, not one that has begun anew since.
function steps.lost(id)
    if state_of(id) == 'done' then
        remove(id)
    end
end

-- Remove those of the ids that are no sound job's.
function steps.mend(...)
    for _, id in ipairs({...}) do
        state_of(id)
    end
end

-- Remove up to 1,000 jobs that have ended in a state: so many that Redis is not held up.
function steps.delete_all(state)
    local ids = jobs_in(state, '+inf', 1000)
    for _, id in ipairs(ids) do
        remove(id)
    end
    return #ids
end

-- Put right what died: leases that ran out, messages that were lost, and what has expired. Returns the ids and queues
-- of jobs that need a message.
function steps.sweep(attempts, limit, expiry, republish)
    for _, state in ipairs({'done', 'failed', 'cancelled'}) do
        for _, id in ipairs(jobs_in(state, now - expiry * 1000, 100)) do
            remove(id)
        end
    end
    for _, id in ipairs(jobs_in('running', now, 100)) do
        if now - field(id, 'started') > limit * 1000 then
            finish(id, 'failed', 'It took longer than ' .. limit .. ' seconds.')
        elseif tonumber(field(id, 'attempts')) >= tonumber(attempts) then
            finish(id, 'failed', 'Its worker died, or lost what it had written, ' .. attempts .. ' times.')
        else
            redis.call('HSET', prefix .. id, 'published', 0, 'progress', 0)
            redis.call('UNLINK', prefix .. 'result:' .. id .. ':' .. field(id, 'token'))
            redis.call('HDEL', prefix .. id, 'token', 'started')
            move(id, 'queued', place_in_queue(id))
        end
    end
    local unheard = {}
    -- The first in the queue alone: those behind them wait for workers, not for messages.
    for _, id in ipairs(jobs_in('queued', '+inf', 10)) do
        if now - field(id, 'published') > republish * 1000 then
            redis.call('HSET', prefix .. id, 'published', now)
            table.insert(unheard, id)
            table.insert(unheard, field(id, 'queue'))
        end
    end
    return unheard
end

return steps[ARGV[1]](unpack(ARGV, 2))
