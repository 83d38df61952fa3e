<?php
// Managed by Salt, formula zabbix_server. Usage: php set-zabbix-password.php [--check|--unblock] <password
// Give Zabbix's user Admin the password of the standard input, and say "changed" where it had another; --check: only
// say so. Past the API: that would want to know the old one, and be there while that is still Debian's.
// --unblock: have Zabbix forget the wrong passwords that somebody tried for Admin; only who knows the right one may.
error_reporting(E_ALL);
set_error_handler(function ($level, $message) {
    fwrite(STDERR, "set-zabbix-password: $message\n");
    exit(1);
});

// The database knows the user by the kernel's word (peer).
$zabbix = posix_getpwnam('zabbix');
if (posix_geteuid() === 0) {
    posix_initgroups('zabbix', $zabbix['gid']);
    posix_setgid($zabbix['gid']);
    posix_setuid($zabbix['uid']);
}
$password = rtrim(stream_get_contents(STDIN), "\n");
if (strlen($password) < 20) {
    fwrite(STDERR, "set-zabbix-password: the standard input has no password of 20 characters\n");
    exit(2);
}
$name = getenv('ZABBIX_DATABASE') ?: 'dbname=zabbix user=zabbix';
$database = pg_connect($name);
$row = pg_fetch_assoc(pg_query($database, "select userid, passwd from users where username = 'Admin'"));
if (!$row) {
    fwrite(STDERR, "set-zabbix-password: Zabbix has no user Admin\n");
    exit(1);
}
$known = password_verify($password, $row['passwd']);
if (in_array('--unblock', $argv, true)) {
    if (!$known) {
        fwrite(STDERR, "set-zabbix-password: Zabbix's user Admin has another password\n");
        exit(1);
    }
    // Of what Zabbix keeps of wrong passwords, it is the count that blocks; the other two say when and whence.
    pg_query_params($database, 'update users set attempt_failed = 0 where userid = $1', [$row['userid']]);
    exit(0);
}
if ($known) {
    exit(0);
}
if (!in_array('--check', $argv, true)) {
    $hash = password_hash($password, PASSWORD_BCRYPT, ['cost' => 10]);
    pg_query($database, 'begin');
    $new = [$hash, $row['userid']];
    pg_query_params($database, 'update users set passwd = $1, attempt_failed = 0 where userid = $2', $new);
    // Who came in by the old one is out.
    pg_query_params($database, 'delete from sessions where userid = $1', [$row['userid']]);
    pg_query($database, 'commit');
}
echo "changed\n";
