/* Every hostcall, as one table: X(name, how many i32 parameters, what it hands over).
 *
 * Handed over: "w" a u32, "d" a u64, "b" bytes (their address and their size), in the order of the last parameters.
 * The parameters are all numbers here, so that a script may pass any of them, also addresses that do not exist. */
#pragma once

#include "proxy_wasm.h"

#if defined(ABI_0_1_0)
#define OF_THIS_VERSION(X)           \
    X(proxy_get_configuration, 2, "b") \
    X(proxy_continue_request, 0, "")   \
    X(proxy_continue_response, 0, "")  \
    X(proxy_clear_route_cache, 0, "")
#elif defined(ABI_0_2_0)
#define OF_THIS_VERSION(X)         \
    X(proxy_continue_stream, 1, "") \
    X(proxy_close_stream, 1, "")
#elif defined(ABI_0_2_1)
#define OF_THIS_VERSION(X)         \
    X(proxy_get_log_level, 1, "w")  \
    X(proxy_continue_stream, 1, "") \
    X(proxy_close_stream, 1, "")
#else
#error "name the version of the ABI"
#endif

#define HOSTCALLS(X)                              \
    X(proxy_log, 3, "")                           \
    X(proxy_get_status, 3, "wb")                  \
    X(proxy_get_property, 4, "b")                 \
    X(proxy_set_property, 4, "")                  \
    X(proxy_send_local_response, 8, "")           \
    X(proxy_get_shared_data, 5, "bw")             \
    X(proxy_set_shared_data, 5, "")               \
    X(proxy_register_shared_queue, 3, "w")        \
    X(proxy_resolve_shared_queue, 5, "w")         \
    X(proxy_dequeue_shared_queue, 3, "b")         \
    X(proxy_enqueue_shared_queue, 3, "")          \
    X(proxy_get_header_map_value, 5, "b")         \
    X(proxy_add_header_map_value, 5, "")          \
    X(proxy_replace_header_map_value, 5, "")      \
    X(proxy_remove_header_map_value, 3, "")       \
    X(proxy_get_header_map_pairs, 3, "b")         \
    X(proxy_set_header_map_pairs, 3, "")          \
    X(proxy_get_header_map_size, 2, "w")          \
    X(proxy_get_buffer_bytes, 5, "b")             \
    X(proxy_get_buffer_status, 3, "ww")           \
    X(proxy_set_buffer_bytes, 5, "")              \
    X(proxy_http_call, 10, "w")                   \
    X(proxy_grpc_call, 12, "w")                   \
    X(proxy_grpc_stream, 9, "w")                  \
    X(proxy_grpc_send, 4, "")                     \
    X(proxy_grpc_cancel, 1, "")                   \
    X(proxy_grpc_close, 1, "")                    \
    X(proxy_set_tick_period_milliseconds, 1, "")  \
    X(proxy_get_current_time_nanoseconds, 1, "d") \
    X(proxy_define_metric, 4, "w")                \
    X(proxy_get_metric, 2, "d")                   \
    X(proxy_set_effective_context, 1, "")         \
    X(proxy_done, 0, "")                          \
    X(proxy_call_foreign_function, 6, "b")        \
    X(pthread_equal, 2, "")                       \
    OF_THIS_VERSION(X)

/* WASI, as far as all parameters are i32. `path_link` and `path_symlink` have 7 and 5
 * in WASI, but 6 and 4 in Envoy, which links nothing else. */
#define WASI(X)                         \
    X(fd_write, 4, "w")                 \
    X(fd_read, 4, "w")                  \
    X(fd_close, 1, "")                  \
    X(fd_sync, 1, "")                   \
    X(fd_datasync, 1, "")               \
    X(fd_tell, 2, "d")                  \
    X(fd_renumber, 2, "")               \
    X(fd_fdstat_get, 2, "ddd")          \
    X(fd_fdstat_set_flags, 2, "")       \
    X(fd_filestat_get, 2, "")           \
    X(fd_prestat_get, 2, "")            \
    X(fd_prestat_dir_name, 3, "")       \
    X(environ_sizes_get, 2, "ww")       \
    X(environ_get, 2, "")               \
    X(args_sizes_get, 2, "ww")          \
    X(args_get, 2, "")                  \
    X(clock_res_get, 2, "d")            \
    X(random_get, 2, "")                \
    X(sched_yield, 0, "")               \
    X(poll_oneoff, 4, "w")              \
    X(path_create_directory, 3, "")     \
    X(path_filestat_get, 5, "")         \
    X(path_link, 6, "")                 \
    X(path_readlink, 6, "")             \
    X(path_remove_directory, 3, "")     \
    X(path_rename, 6, "")               \
    X(path_symlink, 4, "")              \
    X(path_unlink_file, 3, "")          \
    X(sock_recv, 6, "")                 \
    X(sock_send, 5, "")                 \
    X(sock_shutdown, 2, "")

#define P0 void
#define P1 uint32_t
#define P2 P1, uint32_t
#define P3 P2, uint32_t
#define P4 P3, uint32_t
#define P5 P4, uint32_t
#define P6 P5, uint32_t
#define P7 P6, uint32_t
#define P8 P7, uint32_t
#define P9 P8, uint32_t
#define P10 P9, uint32_t
#define P11 P10, uint32_t
#define P12 P11, uint32_t

#define A0
#define A1 a[0]
#define A2 A1, a[1]
#define A3 A2, a[2]
#define A4 A3, a[3]
#define A5 A4, a[4]
#define A6 A5, a[5]
#define A7 A6, a[6]
#define A8 A7, a[7]
#define A9 A8, a[8]
#define A10 A9, a[9]
#define A11 A10, a[10]
#define A12 A11, a[11]

/* Declared under names of their own: libc and proxy_wasm.h know some of them with other types. */
#define FROM(module, name) __attribute__((import_module(module), import_name(#name)))
#define WRAP(name, count) \
    static uint32_t call_##name(const uint64_t *a) { return host_##name(A##count); }
#define DECLARE_ENV(name, count, gives)           \
    FROM("env", name) uint32_t host_##name(P##count); \
    WRAP(name, count)
#define DECLARE_WASI(name, count, gives)                             \
    FROM("wasi_snapshot_preview1", name) uint32_t host_##name(P##count); \
    WRAP(name, count)

HOSTCALLS(DECLARE_ENV)
WASI(DECLARE_WASI)

/* And those with a 64-bit parameter, or without a result. */
#define I uint32_t
#define L uint64_t
#define SPECIAL(X)                                                                    \
    X("env", proxy_increment_metric, 2, "", (I, L))                                   \
    X("env", proxy_record_metric, 2, "", (I, L))                                      \
    X("wasi_snapshot_preview1", clock_time_get, 3, "d", (I, L, I))                    \
    X("wasi_snapshot_preview1", fd_pwrite, 5, "w", (I, I, I, L, I))                   \
    X("wasi_snapshot_preview1", fd_pread, 5, "w", (I, I, I, L, I))                    \
    X("wasi_snapshot_preview1", fd_seek, 4, "d", (I, L, I, I))                        \
    X("wasi_snapshot_preview1", fd_advise, 4, "", (I, L, L, I))                       \
    X("wasi_snapshot_preview1", fd_allocate, 3, "", (I, L, L))                        \
    X("wasi_snapshot_preview1", fd_fdstat_set_rights, 3, "", (I, L, L))               \
    X("wasi_snapshot_preview1", fd_filestat_set_size, 2, "", (I, L))                  \
    X("wasi_snapshot_preview1", fd_filestat_set_times, 4, "", (I, L, L, I))           \
    X("wasi_snapshot_preview1", fd_readdir, 5, "w", (I, I, I, L, I))                  \
    X("wasi_snapshot_preview1", path_open, 9, "w", (I, I, I, I, I, L, L, I, I))       \
    X("wasi_snapshot_preview1", path_filestat_set_times, 7, "", (I, I, I, I, L, L, I))
#define DECLARE_SPECIAL(module, name, count, gives, types) \
    FROM(module, name) uint32_t host_##name types;         \
    WRAP(name, count)

SPECIAL(DECLARE_SPECIAL)
#undef I
#undef L

#define VOID(X)                                   \
    X("env", emscripten_notify_memory_growth)     \
    X("wasi_snapshot_preview1", proc_exit)
#define DECLARE_VOID(module, name)                     \
    FROM(module, name) void host_##name(uint32_t);     \
    static uint32_t call_##name(const uint64_t *a) {   \
        host_##name(a[0]);                             \
        return 0;                                      \
    }

VOID(DECLARE_VOID)

typedef struct {
    const char *name;
    uint32_t (*call)(const uint64_t *arguments);
    uint32_t parameters;
    const char *gives;
} Hostcall;

#define ENTRY(name, count, gives) {#name, call_##name, count, gives},
#define ENTRY_SPECIAL(module, name, count, gives, types) {#name, call_##name, count, gives},
#define ENTRY_VOID(module, name) {#name, call_##name, 1, ""},

static const Hostcall HOSTCALL_TABLE[] = {HOSTCALLS(ENTRY) WASI(ENTRY) SPECIAL(ENTRY_SPECIAL) VOID(ENTRY_VOID)};
