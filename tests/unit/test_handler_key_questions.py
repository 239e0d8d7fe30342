"""Questions for keys on their way from a handler to its worker, and answers back."""

import asyncio

import msgspec
import pytest

from openegress.core import ipc
from openegress.core.errors import EgressError
from openegress.core.room_keys import KeyAnswer, KeyQuestion, RoomKey
from openegress.handler.key_questions import KeyQuestions

ANSWER = KeyAnswer((RoomKey(0, b"hidden", identities=("ann",)),), 60.0)


async def test_each_question_gets_its_own_answer() -> None:
    sent: list[ipc.AskKeys] = []
    questions = KeyQuestions(sent.append)
    first = asyncio.create_task(questions.ask(KeyQuestion(("ann",), 3)))
    second = asyncio.create_task(questions.ask(KeyQuestion(("ben",))))
    await asyncio.sleep(0)
    assert [each.question.identities for each in sent] == [("ann",), ("ben",)]
    questions.answer(ipc.KeysGiven(sent[1].call, error="it answers 503"))
    questions.answer(ipc.KeysGiven(sent[0].call, ANSWER))
    questions.answer(ipc.KeysGiven(99, ANSWER))
    assert await first == ANSWER
    with pytest.raises(EgressError, match="it answers 503"):
        await second
    questions.answer(ipc.KeysGiven(sent[0].call, ANSWER))


def test_keys_cross_the_socket_and_are_not_printed() -> None:
    (body,) = ipc.Framer().feed(ipc.frame(ipc.KeysGiven(7, ANSWER)))
    told = msgspec.msgpack.decode(body, type=ipc.ToHandler)
    assert told == ipc.KeysGiven(7, ANSWER) and "hidden" not in repr(told)
