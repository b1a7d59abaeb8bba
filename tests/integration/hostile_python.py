"""Python programs that attack their jail; `ESCAPED` in the output means that one got through.

In a source, @MARKER@ is a file of the host that all may read, @FOLDER@ a folder that all may write, @PORT@ a TCP port
that listens on the host, @SOCKET@ a unix socket's name there, @PID@ the grader's process, @SECRET@ what must not leak.
"""

from __future__ import annotations

from typing import NamedTuple

from infra.sandbox.limits import Ending

FINISHED, FAILED, TIME = Ending.FINISHED, Ending.FAILED, Ending.TIME_LIMIT
MEMORY, OUTPUT = Ending.MEMORY_LIMIT, Ending.OUTPUT_LIMIT
HELD = frozenset({FINISHED})
STOPPED = frozenset({FAILED, TIME, MEMORY})
FORBID = """
import ctypes, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def forbid(action):
    try:
        found = action()
    except (OSError, ValueError, OverflowError) as error:
        return
    print("ESCAPED", found)
def forbid_call(name, *arguments):
    if getattr(libc, name)(*arguments) != -1:
        print("ESCAPED", name)
"""


class Hostile(NamedTuple):
    """An attack, and the endings that it may have."""

    name: str
    source: str
    endings: frozenset[Ending]


def _row(name: str, source: str, *endings: Ending) -> Hostile:
    return Hostile(name, FORBID + source, frozenset(endings) or HELD)


PYTHON = (
    # Exhaustion
    _row("fork_bomb", "while True:\n  try: os.fork()\n  except OSError: pass", TIME),
    _row("threads_without_end", "import threading\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
         FAILED, TIME),
    _row("memory", "x = []\nwhile True: x.append(bytearray(10**7))", MEMORY),
    _row("memory_at_once", "x = bytearray(10**11)", MEMORY),
    _row("memory_in_children", "while True:\n  try:\n    if os.fork() == 0: x = bytearray(10**8); time.sleep(9)\n"
         "  except OSError: time.sleep(9)", TIME),
    _row("memory_mapped", "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 10**8))", MEMORY, FAILED),
    _row("huge_power", "x = 10**10**10", MEMORY, TIME),
    _row("disk_one_file", "f = open('x', 'wb')\nwhile True: f.write(b'a' * 10**6)", FAILED),
    _row("disk_many_files", "n = 0\nwhile True:\n  open(str(n), 'wb').write(b'a' * 10**6); n += 1", FAILED),
    _row("disk_empty_files", "n = 0\nwhile True: open(str(n), 'w').close(); n += 1", FAILED),
    _row("disk_deep_folders", "while True: os.mkdir('d'); os.chdir('d')", FAILED),
    _row("flood_of_output", "while True: sys.stdout.write('a' * 65536)", OUTPUT),
    _row("flood_of_errors", "while True: sys.stderr.write('a' * 65536)", TIME),
    _row("flood_by_child", "if os.fork() == 0:\n  while True: os.write(1, b'a' * 65536)\ntime.sleep(9)", OUTPUT),
    _row("huge_line", "print('a' * 10**8)", OUTPUT),
    _row("busy_loop", "while True: pass", TIME),
    _row("sleep", "time.sleep(1000)", TIME),
    _row("busy_children", "for _ in range(8):\n  if os.fork() == 0:\n    while True: pass\ntime.sleep(9)", TIME),
    _row("stack_overflow", "sys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nf(0)", FAILED, MEMORY, TIME),
    _row("huge_compile", "exec('x = ' + '(' * 10**6 + ')' * 10**6)", FAILED, MEMORY, TIME),
    _row("huge_expression", "eval('+'.join(['1'] * 10**6))", *STOPPED, FINISHED),
    _row("regex_backtracking", "import re\nre.match('(a+)+$', 'a' * 50 + 'b')", TIME),
    _row("open_files", "x = []\nwhile True: x.append(os.open('/dev/null', 0))", FAILED),
    _row("pipes_full", "x = []\nwhile True:\n  x.append(os.pipe()); os.set_blocking(x[-1][1], False)\n"
         "  os.write(x[-1][1], b'a' * 65536)", FAILED),
    # Signals
    _row("ignores_signals", "for n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n"
         "  except (OSError, ValueError): pass\nwhile True: pass", TIME),
    _row("ignores_cpu_signal", "signal.signal(signal.SIGXCPU, lambda *_: None)\nwhile True: pass", TIME),
    _row("kills_parent", "forbid(lambda: os.kill(os.getppid(), 9))\ntime.sleep(0.2)\nprint('alive')", FINISHED),
    _row("kills_all", "os.kill(-1, 9)", FAILED, FINISHED),
    _row("kills_first_process", "forbid(lambda: os.kill(1, 9))\ntime.sleep(0.2)", FINISHED),
    _row("interrupts_first_process", "try: os.kill(1, signal.SIGINT)\nexcept OSError: pass\ntime.sleep(0.2)\n"
         "print('alive')", FINISHED),
    _row("kills_grader", "forbid(lambda: os.kill(@PID@, 9))"),
    _row("kills_group", "os.killpg(0, 9)", FAILED),
    _row("stops_itself", "os.kill(os.getpid(), signal.SIGSTOP)", TIME),
    # Other processes
    _row("traces_parent", "forbid_call('ptrace', 16, os.getppid(), 0, 0)"),
    _row("traces_first_process", "forbid_call('ptrace', 0x4206, 1, 0, 0)"),
    _row("reads_memory_of_parent", "buffer = ctypes.create_string_buffer(8)\n"
         "class V(ctypes.Structure): _fields_ = [('a', ctypes.c_void_p), ('n', ctypes.c_size_t)]\n"
         "v = V(ctypes.addressof(buffer), 8)\n"
         "forbid_call('process_vm_readv', 1, ctypes.byref(v), 1, ctypes.byref(v), 1, 0)\n"
         "forbid_call('process_vm_writev', 1, ctypes.byref(v), 1, ctypes.byref(v), 1, 0)"),
    _row("writes_memory_file", "forbid(lambda: open('/proc/1/mem', 'r+b'))"),
    _row("reads_environments", "for p in os.listdir('/proc'):\n  try: text = open(f'/proc/{p}/environ').read()\n"
         "  except OSError: continue\n  if '@SECRET@' in text: print('ESCAPED')"),
    _row("reads_own_environment", "if '@SECRET@' in str(os.environ): print('ESCAPED')"),
    _row("sees_processes", "if len([p for p in os.listdir('/proc') if p.isdigit()]) > 4: print('ESCAPED')"),
    _row("reads_roots_of_others", "for p in os.listdir('/proc'):\n  if p.isdigit() and int(p) != os.getpid():\n"
         "    forbid(lambda: os.listdir('/'.join(('/proc', p, 'root', 'tmp'))))\n"
         "    forbid(lambda: os.listdir(f'/proc/{p}/fd'))"),
    # Files of the host
    _row("reads_marker", "forbid(lambda: open('@MARKER@').read())"),
    _row("reads_shadow", "for p in ('/etc/shadow', '/etc/passwd', "
         "*('/'.join(('', 'root', n)) for n in ('.bashrc', '.ssh/id_rsa'))):\n"
         "  forbid(lambda: open(p).read())"),
    _row("climbs_up", "forbid(lambda: open('../' * 40 + '@MARKER@'.lstrip('/')).read())"),
    _row("reads_by_symlink", "os.symlink('@MARKER@', 'link')\nforbid(lambda: open('link').read())"),
    _row("reads_by_hard_link", "forbid(lambda: os.link('@MARKER@', 'hard'))"),
    _row("writes_outside", "forbid(lambda: open('@FOLDER@/planted', 'w'))\n"
         "for p in ('/usr/planted', '/planted', '/box/planted', '/dev/planted', '/etc/planted'):\n"
         "  forbid(lambda: open(p, 'w'))"),
    _row("symlink_planted_for_host", "os.symlink('/etc/passwd', '/tmp/main')"),
    _row("changes_interpreter", "forbid(lambda: open(sys.executable, 'r+b'))\nforbid(lambda: "
            "os.chmod('/usr/bin/env', 0))"),
    _row("reads_kernel", "forbid(lambda: open('/proc/kcore', 'rb').read(1))\nforbid(lambda: open('/dev/mem', 'rb'))"),
    _row("writes_kernel", "for p in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', "
            "'/proc/self/oom_score_adj/x'):\n"
         "  forbid(lambda: open(p, 'w').write('x'))"),
    _row("core_dump", "open('/tmp/x', 'w')\nif os.fork() == 0: os.abort()\nos.wait()\n"
         "if [n for n in os.listdir('.') if 'core' in n]: print('ESCAPED')"),
    # Network
    _row("tcp", "forbid(lambda: socket.create_connection(('127.0.0.1', @PORT@), 1))\n"
         "forbid(lambda: socket.create_connection(('1.1.1.1', 53), 1))"),
    _row("udp", "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nforbid(lambda: s.sendto(b'x', ('8.8.8.8', "
            "53)))"),
    _row("unix_socket", "s = socket.socket(socket.AF_UNIX)\nforbid(lambda: s.connect('\\0@SOCKET@'))\n"
         "forbid(lambda: s.connect('/var/run/docker.sock'))"),
    _row("netlink", "forbid(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))\n"
         "forbid(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))"),
    _row("host_socket", "forbid(lambda: socket.socket(40, socket.SOCK_STREAM))"),
    _row("name_lookup", "forbid(lambda: socket.getaddrinfo('example.com', 80))"),
    # Privileges
    _row("mount", "forbid_call('mount', b'tmpfs', b'/tmp', b'tmpfs', 0, None)"),
    _row("unmount", "forbid_call('umount2', b'/tmp', 2)"),
    _row("chroot", "forbid(lambda: os.chroot('/tmp'))"),
    _row("setuid", "for n in (0, 1000, 65534): forbid(lambda: os.setresuid(n, n, n))\nforbid(lambda: "
            "os.setgroups([0]))"),
    _row("setuid_programs", "import subprocess\n"
         "r = subprocess.run(['/usr/bin/su', '-c', 'id'], input='', capture_output=True, text=True)\n"
         "if 'uid=0' in r.stdout: print('ESCAPED')"),
    _row("new_user_namespace", "forbid_call('unshare', 0x10000000)"),
    _row("new_namespaces_by_clone", "forbid_call('syscall', 56, 0x10000000 | 17, 0, 0, 0, 0)"),
    _row("joins_namespace", "forbid(lambda: os.open('/proc/1/ns/mnt', 0))\n"
         "forbid_call('setns', os.open('/proc/self/ns/net', 0), 0)"),
    _row("device_node", "forbid(lambda: os.mknod('disk', 0o60666, os.makedev(254, 0)))\n"
         "forbid(lambda: os.mknod('memory', 0o20666, os.makedev(1, 1)))"),
    _row("raises_limits", "import resource\nfor n in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, "
            "resource.RLIMIT_CPU):\n"
         "  forbid(lambda: resource.setrlimit(n, (resource.RLIM_INFINITY,) * 2))"),
    _row("real_time", "forbid(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(9)))\n"
         "forbid(lambda: os.nice(-5))"),
    _row("capabilities", "for line in open('/proc/self/status'):\n"
         "  if line[:6] in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb') "
         "and int(line.split()[1], 16): print('ESCAPED', line)"),
    _row("opens_mounts", "forbid_call('syscall', 428, -100, b'/usr', 1)\n"
         "forbid_call('syscall', 467, -100, b'/usr', 1, ctypes.create_string_buffer(32), 32)"),
    _row("kernel_keys", "forbid_call('syscall', 248, b'user', b'k', b'v', 1, -4)"),
    _row("io_uring", "forbid_call('syscall', 425, 8, ctypes.create_string_buffer(200))"),
    _row("loads_bpf", "forbid_call('syscall', 321, 0, 0, 0)"),
    # Ends that look like success, and what is left behind
    _row("leaves_by_exit", "sys.exit(0)"),
    _row("leaves_at_once", "os._exit(0)"),
    _row("daemon", "if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.closerange(0, 99); "
            "time.sleep(99)\n"
         "  os._exit(0)\ntime.sleep(0.1)", FINISHED),
    _row("thread_outlives", "import threading\nthreading.Thread(target=time.sleep, args=(99,)).start()", TIME),
    _row("daemon_thread", "import threading\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()"),
    _row("shared_memory", "forbid_call('shmget', 4711, 4096, 0o1666)"),
    _row("posix_shared_memory", "forbid_call('shm_open', b'/left', 0o102, 0o666)"),
    _row("semaphores_left", "libc.semget(4712, 1, 0o1666)", FINISHED),
    _row("files_left", "open('/tmp/left', 'w').write('x')", FINISHED),
    _row("socket_left", "s = socket.socket(socket.AF_UNIX)\ns.bind('\\0left')\ns.listen()\n"
         "if os.fork() == 0: time.sleep(99)", FINISHED),
    _row("connection_left", "a = socket.create_server(('127.0.0.1', 8000))\n"
         "c = socket.create_connection(('127.0.0.1', 8000))\na.accept()[0].close()\nc.close()", FINISHED),
    # The interpreter and its descriptors
    _row("inherited_descriptors", "for n in range(3, 300):\n  forbid(lambda: os.fstat(n))"),
    _row("sends_to_zygote", "for n in range(3, 300):\n  forbid(lambda: os.write(n, b'run {}'))"),
    _row("closes_everything", "os.closerange(0, 300)", FINISHED, FAILED),
    _row("reopens_output", "os.write(os.open('/proc/self/fd/1', os.O_WRONLY), b'fine')", FINISHED),
    _row("zero_bytes", "sys.stdout.write('\\0' * 1000)"),
    _row("bytes_that_are_no_text", "os.write(1, bytes(range(256)))"),
    _row("walks_frames", "f = sys._getframe()\nwhile f: print(sorted(f.f_locals)[:0]); f = f.f_back\n"
         "import gc\nif any('@SECRET@' == o for o in gc.get_objects() if isinstance(o, str)): print('ESCAPED')"),
    _row("traces_itself", "sys.settrace(lambda *_: None)\nsys.setprofile(lambda *_: None)"),
    _row("breaks_builtins", "import builtins\nbuiltins.open = builtins.print = builtins.exec = None\nos._exit = "
            "None", FINISHED, FAILED),
    _row("hooks_exit", "import atexit\natexit.register(lambda: time.sleep(99))", TIME),
    _row("executes_another", "os.execv('/bin/sh', ['sh', '-c', 'cat @MARKER@ /etc/shadow && echo ESCAPED'])", FAILED),
    _row("wild_pointer", "ctypes.string_at(0)", FAILED),
    _row("no_program", "\0\0\0", FAILED),
)  # fmt: skip
