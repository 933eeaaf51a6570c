"""Git's progress, read from what it prints."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.git_progress import GitPhase, GitProgress

CLONE = (
    b"Cloning into '.'...\n"
    b"remote: Enumerating objects: 1840, done.        \n"
    b"remote: Counting objects:   0% (1/1840)        \r"
    b"remote: Counting objects: 100% (1840/1840), done.        \n"
    b"Receiving objects:  67% (1234/1840), 5.31 MiB | 2.65 MiB/s\r"
    b"Receiving objects: 100% (1840/1840), 1.02 GiB | 512 bytes/s, done.\n"
    b"Resolving deltas:  10% (3/30)\r"
    b"Updating files: 100% (4/4), done.\n"
    b"Filtering content:  50% (1/2), 10.00 KiB | 1 byte/s\r"
)


def test_a_clone_is_read_stage_by_stage() -> None:
    """Stage, percent, counts, bytes and rate, as git prints them."""
    phases = GitProgress().feed(CLONE)

    assert [(p.stage, p.percent, p.done, p.total, p.unit) for p in phases] == [
        ("Enumerating objects", None, 1840, None, "objects"),
        ("Counting objects", 0, 1, 1840, "objects"),
        ("Counting objects", 100, 1840, 1840, "objects"),
        ("Receiving objects", 67, 1234, 1840, "objects"),
        ("Receiving objects", 100, 1840, 1840, "objects"),
        ("Resolving deltas", 10, 3, 30, "deltas"),
        ("Updating files", 100, 4, 4, "files"),
        ("Filtering content", 50, 1, 2, "files"),
    ]
    assert phases[3].rate == round(2.65 * 2**20)
    assert phases[3].note == "5.31 MiB at 2.65 MiB/s"
    assert phases[4].rate == 512


def test_a_line_counts_once_it_has_ended() -> None:
    """The carriage return decides, not the chunk."""
    progress = GitProgress()

    assert progress.feed(b"Resolving deltas:  50% (1/2)") == []
    assert [p.percent for p in progress.feed(b"\r")] == [50]
    assert progress.feed(b"\r\n") == []


def test_other_words_and_impossible_numbers_are_passed_over() -> None:
    """The server's words are hostile: unknown titles and nonsense are no progress."""
    noise = [
        b"remote: Receiving objects: 50% (1/2)",  # not the server's to say
        b"Counting objects: 50% (1/2)",  # nor ours
        b"remote: Send money: 50% (1/2)",
        b"Receiving objects: 101% (1/2)",
        b"Receiving objects: 50% (3/2)",
        b"Receiving objects: 999% (1/2)",
        b"Receiving objects: 50% (1/" + b"9" * 30 + b")",
        b"Receiving objects: 50% (1/2), 1.00 TiB | 1.00 MiB/s",
        b"Receiving objects: \xff% (1/2)",
        b"Receiving objects: 50% (1/2)" + b" " * 400,
        b"fatal: early EOF",
    ]
    assert GitProgress().feed(b"\n".join(noise) + b"\n") == []


def test_an_endless_line_takes_no_memory() -> None:
    """What is kept between chunks is bounded, and the next line is read again."""
    progress = GitProgress()
    for _ in range(100):
        progress.feed(b"x" * 10_000)
        assert len(progress._open) <= 257

    assert [p.done for p in progress.feed(b"\rResolving deltas: 100% (7/7), done.\n")] == [7]


@given(
    st.lists(st.sampled_from(CLONE.splitlines(keepends=True)) | st.binary(max_size=20)),
    st.data(),
)
def test_the_result_is_the_same_for_every_splitting(
    pieces: list[bytes], data: st.DataObject
) -> None:
    """Whole, in any pieces, or byte by byte."""
    output = b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(output))))
    edges = [0, *sorted(cuts), len(output)]

    def read(chunks: list[bytes]) -> list[GitPhase]:
        progress = GitProgress()
        return [phase for chunk in chunks for phase in progress.feed(chunk)]

    whole = read([output])
    assert read([output[a:b] for a, b in pairwise(edges)]) == whole
    assert read([output[i : i + 1] for i in range(len(output))]) == whole


@given(st.lists(st.sampled_from([b"x" * 200, b"\r", b"Resolving deltas:  50% (1/2)"]), max_size=12))
def test_long_lines_are_dropped_the_same_way_in_any_splitting(pieces: list[bytes]) -> None:
    """The bound falls at the same byte, however the line arrived."""
    by_piece, whole = GitProgress(), GitProgress()

    assert [p for piece in pieces for p in by_piece.feed(piece)] == whole.feed(b"".join(pieces))
