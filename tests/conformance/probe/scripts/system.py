"""Log, clock, memory, the allocator, the start, WASI."""

from __future__ import annotations

from tests.conformance.probe.script import Script, in_phase

_IOV = '*"\\x08\\x00\\x00\\x00\\x04\\x00\\x00\\x00"'

SCRIPTS = [
    Script(
        "log-levels",
        in_phase(
            "request_headers",
            """
            log 0 "trace"
            log 1 "debug"
            log 2 "info"
            log 3 "warn"
            log 4 "error"
            log 5 "critical"
            log 6 "none"
            log -1 "none"
            log 2 ""
            log 2 "\\xc3\\xa9 \\x00 \\x1b"
            log 2 0xfffffff0 4
            log 9 0xfffffff0 4
            get_log_level
            get_log_level 0xfffffff0
            """,
        ),
    ),
    Script(
        "clock",
        in_phase(
            "request_headers",
            """
            get_current_time_nanoseconds $3
            get_current_time_nanoseconds 0xfffffff0
            get_current_time_nanoseconds 0
            clock_time_get 0 0 $3
            clock_time_get 1 0 $3
            clock_time_get 2 0 $3
            clock_time_get 0 0 0xfffffff0
            clock_res_get 0
            clock_res_get 1
            clock_res_get 2
            clock_res_get 0 0xfffffff0
            """,
        ),
    ),
    Script(
        "tick",
        in_phase("configure", "set_tick_period_milliseconds 20")
        + in_phase("tick@1", "args\nset_tick_period_milliseconds 30")
        + in_phase("tick@2", "args\nset_tick_period_milliseconds 0\nset_tick_period_milliseconds 20")
        + in_phase("tick@3", "args\nset_tick_period_milliseconds 20\nset_tick_period_milliseconds 0")
        + in_phase("tick@4", "args"),
    ),
    Script(
        "tick-from-stream",
        in_phase("request_headers", "set_tick_period_milliseconds 20")
        + in_phase("tick@1", "args\nset_tick_period_milliseconds 0"),
    ),
    Script(
        "status-bad-memory",
        in_phase(
            "request_headers",
            "get_status 0xfffffff0 $1 $2\nget_status $0 0xfffffff0 $2\nget_status $0 $1 0xfffffff0\nget_status",
        ),
    ),
    Script(
        "allocator-refuses",
        in_phase(
            "request_headers",
            """
            refuse 1
            get_property "plugin_name"
            get_property "plugin_name"
            refuse 1 0xfffffff0
            get_property "plugin_name"
            refuse 1 0x10
            get_property "none"
            get_property "plugin_root_id"
            refuse 0
            get_property "plugin_name"
            """,
        ),
    ),
    Script(
        "allocator-logs",
        'request_headers: get_property "plugin_name"\n',
        early='malloc@2: log 2 "allocating"\nmalloc@2: get_current_time_nanoseconds $3\n',
    ),
    *(
        Script(
            f"allocator-calls-{name}",
            'request_headers: get_property "plugin_name"\nrequest_headers: log 2 "after"\n',
            early=f"malloc@2: {command}\n",
        )
        for name, command in {
            "get_property": 'get_property "plugin_name"',
            "get_status": "get_status",
            "get_log_level": "get_log_level",
            "pthread_equal": "pthread_equal 1 1",
            "growth": "emscripten_notify_memory_growth 0",
            "clock": "get_current_time_nanoseconds $3",
            "environ": "environ_sizes_get $3 $3",
            "random": "random_get $3 4",
            "fd_write": f"fd_write 1 {_IOV} 1",
            "sched_yield": "sched_yield",
            "trap": "trap",
        }.items()
    ),
    *(
        Script(
            f"initialize-calls-{name}",
            'request_headers: log 2 "served"\n',
            early=f'initialize: log 2 "first"\ninitialize: {command}\nroot_create: log 2 "created"\n',
            starts=starts,
        )
        for name, command, starts in (
            ("log", 'log 2 "line"', True),
            ("clock", "get_current_time_nanoseconds $3", False),
            ("growth", "emscripten_notify_memory_growth 0", True),
            ("wasi_clock", "clock_time_get 0 0 $3", True),
            ("random", "random_get $3 4", True),
            ("fd_write", f"fd_write 1 {_IOV} 1", True),
            ("poll_oneoff", "poll_oneoff 0 0 0", True),
            ("get_property", 'get_property "plugin_name"', False),
            ("get_log_level", "get_log_level", False),
            ("pthread_equal", "pthread_equal 1 1", False),
            ("set_tick", "set_tick_period_milliseconds 0", False),
            ("trap", "trap", False),
        )
    ),
    Script(
        "wasi-files",
        in_phase(
            "request_headers",
            f"""
            fd_write 1 {_IOV} 1
            fd_write 2 {_IOV} 1
            fd_write 0 {_IOV} 1
            fd_write 3 {_IOV} 1
            fd_write 1 {_IOV} 0
            fd_write 1 0xfffffff0 1
            fd_write 1 *"\\xf0\\xff\\xff\\xff\\x04\\x00\\x00\\x00" 1
            fd_write 1 {_IOV} 1 0xfffffff0
            fd_write 3 0xfffffff0 1
            fd_pwrite 1 {_IOV} 1 0
            fd_read 0 {_IOV} 1
            fd_pread 0 {_IOV} 1 0
            fd_close 1
            fd_close 9
            fd_sync 1
            fd_sync 9
            fd_datasync 1
            fd_datasync 9
            fd_tell 1
            fd_tell 9
            fd_tell 1 0xfffffff0
            fd_renumber 1 2
            fd_renumber 1 9
            fd_renumber 9 9
            fd_fdstat_get 0
            fd_fdstat_get 1
            show $0 24
            fd_fdstat_get 9
            fd_fdstat_get 1 0xfffffff0
            fd_fdstat_set_flags 1 0
            fd_fdstat_set_flags 9 0
            fd_fdstat_set_rights 1 0 0
            fd_fdstat_set_rights 9 0 0
            fd_filestat_get 1 $0
            fd_filestat_get 9 $0
            fd_filestat_set_size 1 0
            fd_filestat_set_size 9 0
            fd_filestat_set_times 1 0 0 0
            fd_filestat_set_times 9 0 0 0
            fd_prestat_get 1
            fd_prestat_get 3
            fd_prestat_dir_name 3 $0 4
            fd_seek 1 0 0
            fd_seek 9 0 0
            fd_advise 1 0 0 0
            fd_advise 9 0 0 0
            fd_allocate 1 0 0
            fd_allocate 9 0 0
            fd_readdir 1 $0 0 0
            fd_readdir 9 $0 0 0
            path_open 3 0 "x" 0 0 0 0
            path_create_directory 3 "x"
            path_filestat_get 3 0 "x"
            path_filestat_set_times 3 0 "x" 0 0 0
            path_link 3 0 0 0 3 0
            path_readlink 3 "x" $0 4
            path_remove_directory 3 "x"
            path_rename 3 "x" 3 "y"
            path_symlink 0 0 3 0
            path_unlink_file 3 "x"
            sock_recv 3 0 0 0
            sock_send 3 0 0 0
            sock_shutdown 3 0
            """,
        ),
    ),
    Script(
        "wasi-process",
        in_phase(
            "request_headers",
            """
            environ_sizes_get
            environ_get $0 $2
            show $2 4
            environ_sizes_get 0xfffffff0 $1
            environ_sizes_get $0 0xfffffff0
            environ_get 0xfffffff0 $1
            environ_get $0 0xfffffff0
            args_sizes_get
            args_sizes_get 0xfffffff0 $1
            args_get $0 $1
            args_get 0xfffffff0 0xfffffff0
            random_get $3 4
            random_get $3 0
            random_get 0xfffffff0 0
            random_get 0xfffffff0 4
            random_get 0xfffffff0 65537
            random_get 0xfffffff0 65536
            sched_yield
            poll_oneoff 0 0 0
            poll_oneoff 0xfffffff0 0xfffffff0 9
            poll_oneoff 0 0 0 0xfffffff0
            proc_exit 0
            proc_exit 1
            log 2 "after"
            """,
        ),
        env={"A": "1"},
    ),
    Script(
        "emscripten",
        in_phase(
            "request_headers",
            "pthread_equal 1 1\npthread_equal 1 2\npthread_equal 0 0\nemscripten_notify_memory_growth 0\nemscripten_notify_memory_growth -1",
        ),
    ),
]
