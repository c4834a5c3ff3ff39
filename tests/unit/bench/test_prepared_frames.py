"""The load generator sends what a client's library would send, and reads answers however they are cut."""

from __future__ import annotations

from hpack import Decoder, Encoder

from bench.speed import frames


def frames_of(data):
    """Type, flags, stream and payload of each frame."""
    found = []
    while data:
        end = frames.HEAD_BYTES + int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found


def test_calls_after_the_first_say_the_same_in_fewer_bytes():
    """A server reads the same headers and message from each call; only the first spells them out."""
    calls, decoder, message = frames.Calls("127.0.0.1:1", "/a.B/C"), Decoder(), frames.payload(b"request")
    first, second, third = (frames_of(calls.call(stream, message)) for stream in (1, 3, 5))

    headers = [decoder.decode(one[0][3]) for one in (first, second, third)]
    assert headers[0] == headers[1] == headers[2]
    assert dict(headers[0])[":path"] == "/a.B/C"
    assert len(second[0][3]) < len(first[0][3])
    for stream, call in ((1, first), (3, second), (5, third)):
        assert [one[:3] for one in call] == [
            (frames.HEADERS, frames.END_HEADERS, stream),
            (frames.DATA, frames.END_STREAM, stream),
        ]
        assert call[1][3] == b"\0\0\0\0\x07request"


def test_messages_are_counted_however_they_are_cut():
    """What counts is the messages, not the frames that carry them."""
    data = b"".join(b"\0" + len(one).to_bytes(4, "big") + one for one in (b"", b"a" * 300, b"bc"))
    for size in (1, 2, 7, len(data)):
        messages = frames.Messages()
        for at in range(0, len(data), size):
            messages.take(data[at : at + size])
        assert (messages.count, messages.bytes, messages.rest) == (3, len(data), b"")
    messages = frames.Messages()
    messages.take(data[:-1])
    assert (messages.count, messages.rest) == (2, data[-7:-1])


def test_only_trailers_that_say_ok_are_good():
    """Trailers are good by their status, whether their bytes were seen before or not."""
    encoder, status = Encoder(), frames.Status()
    encoder.header_table_size = 0
    good = encoder.encode([("grpc-status", "0"), ("grpc-message", "")])
    bad = encoder.encode([("grpc-status", "14"), ("grpc-message", "no")])
    assert [status.good(block) for block in (good, bad, good, bad)] == [True, False, True, False]
