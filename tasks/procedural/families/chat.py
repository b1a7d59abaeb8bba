"""Small talk: greetings, identity, moods and advice, in one turn or two."""

from random import Random
from typing import NamedTuple

from tasks.procedural.families.problem import FamilyName, Problem, Solution
from tasks.procedural.families.topics import MOODS, NAMES, SKILLS
from tasks.procedural.families.wording import canonical


class _Talk(NamedTuple):
    says: str
    reply: str
    words: tuple[str, ...] = ("",)


_IDENTITY = "I am a small language model trained by posttrain."
_OPENERS = (
    _Talk("Hello, my name is {}.", "Hello {}, nice to meet you.", NAMES),
    _Talk("Hi, I am {}.", "Hi {}, how can I help you?", NAMES),
    _Talk("Good morning, this is {}.", "Good morning {}, I wish you a good day.", NAMES),
    _Talk("Give me one tip about {}.", "For {}, start small and practice every day.", SKILLS),
    _Talk("How can I become better at {}?", "To become better at {}, practice a little every day.", SKILLS),
    _Talk("Is {} a good hobby?", "Yes, {} is a good hobby when you enjoy it.", SKILLS),
    _Talk("I feel {} today.", "You feel {} today, and I am glad that you tell me.", MOODS),
    _Talk("My friend is {}. What should I say?", "Tell your friend that being {} is fine and that you care.", MOODS),
    _Talk("Who are you?", _IDENTITY),
    _Talk("What is your name?", _IDENTITY),
    _Talk("Who made you?", _IDENTITY),
)
_FOLLOW_UPS = (
    _Talk("Thank you, that is kind.", "You are welcome."),
    _Talk("Have a nice day!", "You too, and come back soon."),
    _Talk("Goodbye for now.", "Goodbye, it was nice to talk to you."),
    _Talk("Who am I talking to?", _IDENTITY),
    _Talk("Now give me a tip about {} too.", "For {}, find a friend and do it together.", SKILLS),
)
_REPLIES = {
    canonical(talk.says.format(word)): talk.reply.format(word)
    for talk in (*_OPENERS, *_FOLLOW_UPS)
    for word in talk.words
}
_SHARE_OF_TWO_TURNS = 0.6


def make(rng: Random) -> Problem:
    """Draw an opener, or an opener with its reply and a follow-up."""
    opener = _draw(_OPENERS, rng)
    if rng.random() >= _SHARE_OF_TWO_TURNS:
        return Problem(opener.says, (FamilyName.CHAT, opener.says), _solution(opener.reply))
    last = _draw(_FOLLOW_UPS, rng)
    key = (FamilyName.CHAT, opener.says, last.says)
    return Problem(last.says, key, _solution(last.reply), history=(opener.says, opener.reply))


def solve(text: str) -> Solution | None:
    """Reply to what the user said last; None when it is none of the talks of this world."""
    reply = _REPLIES.get(canonical(text))
    return None if reply is None else _solution(reply)


def _draw(talks: tuple[_Talk, ...], rng: Random) -> _Talk:
    # Talks with more words weigh more, or the three identity questions would be a fourth of all.
    talk = rng.choices(talks, weights=[len(talk.words) for talk in talks])[0]
    word = rng.choice(talk.words)
    return _Talk(talk.says.format(word), talk.reply.format(word))


def _solution(reply: str) -> Solution:
    return Solution(FamilyName.CHAT, ("this is small talk",), reply)
