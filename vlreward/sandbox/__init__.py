"""Runs model-written matplotlib code where it can harm nothing, and tells what can be seen of the figure that it drew.

Start at `pool.shared().run(scripts)`, which gives a `Drawing` for each script; `wall` is the outer wall, `inside` is what runs behind it.

How it is built. Each worker is one bubblewrap process (`wall.walls`): own user, process, mount, network, IPC, host name and cgroup
namespaces; a read-only file system that holds Python, its installed packages, the system's libraries and this package, and neither /proc,
/sys, home folders nor data; an empty environment; it dies with its parent. In it a *zygote* has imported matplotlib. For each job the
zygote forks a *keeper*, which reads the script, makes new process, mount and IPC namespaces with an empty folder, and forks the *script's
process*. Before the first line of the script this drops all capabilities and every file descriptor but one pipe, limits its memory,
processor time, file size and open files, and confines itself by seccomp to a list of about 120 system calls: no fork, thread or exec, no
socket, no signal, no ptrace, no mount, no chmod, no file lock. When the pipe is closed, too full, or late, the keeper kills the process.
Nothing of a script is ever in the zygote's memory, so nothing of it is in a later script's; a script's process cannot name the zygote, the
keeper, or another script's process, since it has a process namespace of its own, and could not signal or trace them if it did.

Whose fault it is when time runs out. Processor time is the script's own: at its limit the script has failed. Wall time is not: a busy
machine makes a good script wait. So before the limit on wall time the parent asks the kernel (`processes.sleeps`) whether the script has
slept most of its life, which is its own doing and a failure too; if it was running, runnable, waiting for a disk or stopped, the sandbox
has failed and not the script, and the same where the kernel does not say.

Why not a fresh bubblewrap for each script, started before the script comes? It hides the 0.6 seconds of imports only from a script that
comes alone: of a batch of 64, each import still costs its processor time. Measured on one core, a two-panel chart takes 0.75 s of processor
time in a fresh interpreter and 0.17 s here, of which 0.04 s are forks and namespaces and 0.04 s the replay.

Whom to believe. The script shares its interpreter with whatever would record its figure, so nothing that its process says is taken for a
fact. What leaves it is a *document* (`inside.document`): the drawing operations of the figure, numbers and strings, in JSON and one block
of floats; nothing is unpickled or executed. The keeper, in which no script ever ran, gives up its capabilities too, confines itself by the
same filter and carries the document out on an empty canvas (`inside.replay`). The picture *is* what the document draws, and texts, marks,
colours and panels are measured from the ink that each operation leaves visible in that picture (`inside.measure`). A text must moreover
stand out in the finished picture. The expected answer is never in a sandbox; the parent compares.

What a forger can still do: skip matplotlib and write a document of his own. It buys him nothing, since the document has no scores and no
facts in it, only operations: a string counts if it can be read in the picture, a mark if its ink is in the picture, and a picture with the
right strings and marks is the figure that was asked for. The document also names, for each operation, the plotting call, the panel and
whether it belongs to a tick or a legend. These labels are claims; a call's name is dropped where the ink is of another kind (a "bar" must
be rectangles), a panel must own ink within its box, and what remains is open to honest code as well (`set_position`, `hist` for `bar`,
ticks with any label).
"""
