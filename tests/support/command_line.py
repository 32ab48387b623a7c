"""The command line as a user meets it: its status, what it prints, and refusals of one line."""

from typer.testing import CliRunner

from seed_hf.cli.app import app


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments, words: str):
    status, out, err = run(*arguments)
    assert status == 2, (status, out, err)
    assert words in " ".join(err.replace("│", " ").split()), err  # the frame of usage errors wraps long lines
    assert "Traceback" not in err and out == ""
    if err.startswith("seed-hf:"):
        assert err.count("\n") == 1, err
