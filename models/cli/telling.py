"""`python -m models tables`: what was made and how good it is, as Markdown for docs/models.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.cli.command import OK, Command, takes_work
from models.errors import EvaluationError, UsageError
from models.options import EVALUATION, TABLES

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Mapping

    from contract.card import Skill

_BEGIN: Final = "<!-- python -m models tables -->\n"
_END: Final = "<!-- end of tables -->\n"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--into", type=Path, metavar="FILE", help=f"put them there between {_BEGIN.strip()} and {_END}")
    takes_work(parser)


def _tables(args: Namespace) -> int:
    text = "\n".join(_sections(args.work))
    if not text:
        raise UsageError(f"{args.work}: nothing was made yet: make models")
    if args.into is None:
        print(text)
    else:
        args.into.write_text(_replaced(args.into, text), encoding="utf-8")
    return OK


def _sections(work: Path) -> Iterator[str]:
    from models.evaluation.document import read_document, verdict  # noqa: PLC0415 - wanted here alone

    for path in sorted(work.glob(f"*/{EVALUATION}")):
        document = read_document(path)
        try:
            yield f"### {document['recipe']}\n"
            yield f"{document['title']}. {document['data']['title']}: {document['data']['origin']}.\n"
            yield _of_skill(document, verdict(document))
        except (KeyError, TypeError) as exc:
            raise EvaluationError(f"{path}: is not as `evaluate` writes it: {exc!r}") from exc
        quantized = path.with_name(TABLES)
        if quantized.is_file():
            yield quantized.read_text(encoding="utf-8", errors="replace")


def _of_skill(document: Mapping[str, Any], skills: tuple[Skill, ...]) -> str:
    """The verdict, and what it rests on."""
    rows = [f"> {' '.join(_sentences(document['verdict']))}", ""]
    rows += ["| of | measure | against | skill, 95 % interval | |", "| --- | --- | --- | ---: | --- |"]
    for each in skills:
        skill = f"{100 * each.skill:.1f} % [{100 * each.low:.1f}, {100 * each.high:.1f}]"
        rows.append(
            f"| {each.of} | {each.measure} | {each.against} | {skill} | {'shown' if each.is_shown else 'not shown'} |"
        )
    return "\n".join(rows) + "\n"


def _sentences(told: Any) -> list[str]:  # noqa: ANN401 - whatever a kind of model makes of its verdict
    """A verdict is a sentence, several, or several each with whether it is good news."""
    return [told] if isinstance(told, str) else [each if isinstance(each, str) else each[0] for each in told]


def _replaced(path: Path, text: str) -> str:
    before, begin, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise UsageError(f"{path}: has no {_BEGIN.strip()} with {_END.strip()} after it")
    return f"{before}{begin}\n{text}\n{end}{after}"


TELL = Command("tables", "print what was made and how good it is, as Markdown", _add_arguments, _tables)
