import io

from hvd_imagenet.horovod_build.progress import BuildProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps(progress: BuildProgress) -> None:
    for _ in range(2):
        progress.line("-- The CXX compiler identification is GNU 12.2.0\n")
    for done in range(1, 41):
        progress.line(f"[{done}/40] Building CXX object {done}.o\n")
        progress.line("a.cc:1: warning: unused\n")
    progress.close()


def test_elsewhere_a_line_is_written_for_every_tenth() -> None:
    stream = io.StringIO()
    steps(BuildProgress(stream))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("configuring: ")
    assert lines[1].startswith("compiling:   2 % (1 of 40 steps, ")
    assert [line.split("%")[0].split()[-1] for line in lines[1:]] == ["2", *map(str, range(10, 101, 10))]


def test_on_a_terminal_there_is_a_bar() -> None:
    stream = Terminal()
    steps(BuildProgress(stream))
    assert "compiling: 100%" in stream.getvalue()
    assert "40/40" in stream.getvalue()


def test_a_message_has_a_line_of_its_own() -> None:
    stream = Terminal()
    progress = BuildProgress(stream)
    progress.line("[1/4] Building CXX object 1.o")
    progress.say("done")
    assert stream.getvalue().endswith("\ndone\n")
