"""C++ programs that attack their jail or their compiler; `ESCAPED` in the output means that one got through."""

from __future__ import annotations

from infra.sandbox.limits import Ending
from tests.integration.hostile_python import FAILED, FINISHED, HELD, MEMORY, OUTPUT, TIME, Hostile

COMPILE = Ending.COMPILE_ERROR
HEAD = """
#include <bits/stdc++.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <unistd.h>
#define FORBID(call) do { if ((long)(call) != -1) puts("ESCAPED " #call); } while (0)
"""


def _main(name: str, body: str, *endings: Ending) -> Hostile:
    return Hostile(name, f"{HEAD}\nint main() {{ {body} }}\n", frozenset(endings) or HELD)


def _source(name: str, source: str, *endings: Ending) -> Hostile:
    return Hostile(name, source, frozenset(endings))


CPP = (
    _main("cpp_fork_bomb", "for (;;) fork();", TIME),
    _main("cpp_memory", "std::vector<char*> v; for (;;) { v.push_back(new char[1 << 24]); memset(v.back(), 1, 1 << "
            "24); }",
          MEMORY),
    _main("cpp_malloc_unchecked", "for (;;) memset(malloc(1 << 22), 1, 1 << 22);", MEMORY, FAILED),
    _main("cpp_output", "for (;;) puts(\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\");", OUTPUT),
    _main("cpp_busy", "volatile int x = 0; for (;;) x = x + 1;", TIME),
    _main("cpp_ignores_signals", "for (int s = 1; s < 65; s++) signal(s, SIG_IGN); volatile int x = 0; for (;;) x = "
            "x + 1;",
          TIME),
    _main("cpp_threads", "std::vector<std::thread> t; for (;;) t.emplace_back([]{ sleep(99); });", FAILED, TIME),
    _main("cpp_stack", "std::function<int(int)> f = [&](int n) { volatile char b[9999]; b[0] = n; return f(n + 1) + "
            "b[0]; };"
          " return f(0);", FAILED, MEMORY),
    _main("cpp_disk", "int f = open(\"x\", O_CREAT | O_WRONLY, 0600); static char b[1 << 20];"
          " while (write(f, b, sizeof b) > 0); return 1;", FAILED),
    _main("cpp_null", "*(volatile int*)0 = 1;", FAILED),
    _main("cpp_abort", "abort();", FAILED),
    _main("cpp_exit", "_exit(0);", FINISHED),
    _main("cpp_daemon", "if (!fork()) { setsid(); if (!fork()) { for (;;) sleep(9); } _exit(0); } "
            "usleep(50000);", FINISHED),
    _main("cpp_kills", "FORBID(kill(1, 9)); FORBID(kill(@PID@, 9)); FORBID(kill(getppid(), 9));", FINISHED),
    _main("cpp_ptrace", "FORBID(ptrace(PTRACE_ATTACH, 1, 0, 0)); FORBID(ptrace(PTRACE_TRACEME, 0, 0, 0));"),
    _main("cpp_files", "FORBID(open(\"@MARKER@\", O_RDONLY)); FORBID(open(\"/etc/shadow\", O_RDONLY));"
          " FORBID(open(\"/usr/planted\", O_CREAT | O_WRONLY, 0600)); FORBID(open(\"@FOLDER@/planted\", O_CREAT | "
            "O_WRONLY, 0600));"),
    _main("cpp_network", "int s = socket(AF_INET, SOCK_STREAM, 0); sockaddr_in a{}; a.sin_family = AF_INET;"
          " a.sin_port = htons(@PORT@); inet_aton(\"127.0.0.1\", &a.sin_addr); FORBID(connect(s, (sockaddr*)&a, "
            "sizeof a));"),
    _main("cpp_privileges", "FORBID(setuid(0)); FORBID(chroot(\"/tmp\")); FORBID(mount(\"t\", \"/tmp\", \"tmpfs\", "
            "0, 0));"
          " FORBID(unshare(CLONE_NEWUSER)); FORBID(mknod(\"d\", S_IFBLK | 0666, 0xfe00));"
          " rlimit r{RLIM_INFINITY, RLIM_INFINITY}; FORBID(setrlimit(RLIMIT_AS, &r));"),
    _main("cpp_descriptors", "for (int n = 3; n < 300; n++) FORBID(fcntl(n, F_GETFD));"),
    _main("cpp_execs_shell", "execl(\"/bin/sh\", \"sh\", \"-c\", \"cat @MARKER@ && echo ESCAPED\", (char*)0); return "
            "9;", FAILED),
    _source("cpp_static_init", HEAD + "struct A { A() { FORBID(open(\"@MARKER@\", O_RDONLY)); for (;;) pause(); } } a;"
            " int main() {}", TIME),
    _source("cpp_constructor_exits", HEAD + "__attribute__((constructor)) void f() { _exit(0); } int main() { return "
            "1; }",
            FINISHED),
    _source("cpp_inline_call", "int main() {\n#ifdef __x86_64__\n  long r; const char* p = \"/etc/shadow\";\n"
            "  asm volatile(\"syscall\" : \"=a\"(r) : \"a\"(2), \"D\"(p), \"S\"(0), \"d\"(0) : \"rcx\", \"r11\", "
            "\"memory\");\n"
            "  if (r >= 0) __builtin_puts(\"ESCAPED\");\n#endif\n}", FINISHED),
    _source("cpp_old_calls", "int main() {\n#ifdef __x86_64__\n  int r; asm volatile(\"int $0x80\" : \"=a\"(r) : "
            "\"a\"(20));\n"
            "  if (r > 0) __builtin_puts(\"ESCAPED\");\n#else\n  __builtin_trap();\n#endif\n}", FAILED),
    _source("compile_template_bomb", "template<int N> struct A { A<N - 1> a; A<N - 2> b; char c[N]; };"
            " template<> struct A<0> {}; template<> struct A<-1> {};\n"
            "template<class T, class U> struct P {}; template<int N, class T> struct B : B<N - 1, P<T, T>>, B<N - 1, "
            "P<P<T, T>, int>>"
            " {}; template<class T> struct B<0, T> {}; B<40, int> b; int main() {}", COMPILE, TIME, MEMORY),
    _source("compile_constexpr_loop", "constexpr unsigned long f() { unsigned long n = 0; while (true) n++; return "
            "n; }\n"
            "constexpr auto x = f(); int main() {}", COMPILE),
    _source("compile_include_itself", "#include __FILE__\n#include \"/dev/stdin\"\nint main() {}", COMPILE),
    _source("compile_include_endless", "#include \"/dev/zero\"\nint main() {}", COMPILE, TIME, MEMORY),
    _source("compile_macro_bomb", "#define A(x) x x x x x x x x x x\n#define B(x) A(A(A(A(x))))\n"
            "int main() { B(B(B(;))) }", COMPILE, TIME, MEMORY),
    _source("compile_large_output", "char x[200000000] = {1}; int main() {}", COMPILE),
    _source("compile_reads_shadow", "#include </etc/shadow>\nint main() {}", COMPILE),
    _source("compile_reads_marker", "#include \"@MARKER@\"\nint main() {}", COMPILE),
    _source("compile_incbin", "asm(\"x: .incbin \\\"/etc/shadow\\\"\"); int main() {}", COMPILE),
    _source("compile_incbin_environment", "asm(\".global x\\nx: .incbin \\\"/proc/self/environ\\\"\\n.byte 0\");"
            " extern char x[]; int main() { if (__builtin_strstr(x, \"@SECRET@\")) __builtin_puts(\"ESCAPED\"); }",
            COMPILE, FINISHED),
    _source("compile_link_marker", "#pragma comment(lib, \"@MARKER@\")\nint main() {}", FINISHED),
    _source("compile_nothing", "", COMPILE),
)  # fmt: skip
