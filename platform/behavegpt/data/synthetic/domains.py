"""The named configurations: three kinds of log from one code, in the proportions of the paper's Table 1.

    phone     39 behaviours, 114 events, 2,000 places: system events of phones, as in the paper's Honor set
    app       2,000 behaviours, each an event of its own, 2,000 places: app launches, as in its Mobile set
    mobility  14 intents, 140 kinds of visit, 24,435 places: check-ins, as in its Tencent set

What the domains share, so that one can help another: the clock (when users are active, when they are at home, at
work or out), the profiles of the day (behaviour b of any domain of one world_seed has profile b mod 39), and the
mechanism with its weights: the next behaviour comes from the hour or is the habit of the current event, the place, the
last two behaviours. What each has to itself: which behaviour a habit leads to, how long the tails are, how often a
user acts. In all, the most frequent behaviour is over 300 times as frequent as the least (worlds 0 to 4: 430 to 1,070
in phone, 640 to 1,700 in mobility, over 500,000 in app, where some 1,600 of 2,000 occur in training).

Users have habits through the places that are theirs, home and work, which the window shows. A hidden type of user would
act on the events before the window too, which the window does not show: the floor would no longer be exact.
"""

from behavegpt.data.synthetic.config import GeneratorConfig


def phone() -> GeneratorConfig:
    """Return a log of phone events: 828,000 training and 54,000 validation targets."""
    return GeneratorConfig()


def app() -> GeneratorConfig:
    """Return a log of app launches: every event type is a behaviour, and users launch hundreds a day."""
    return GeneratorConfig(num_users=1000, num_behaviors=2000, num_event_types=2000, events_per_day=600.0)


def mobility() -> GeneratorConfig:
    """Return a log of visits: few intents, a few visits a day, and so many places that most are rare.

    In the paper's set a place is the event; here the event is the kind of visit, and the place is where it happens.
    """
    return GeneratorConfig(
        num_users=2102,
        num_train_events=278_100,
        num_behaviors=14,
        num_event_types=140,
        num_places=24_435,
        behavior_exponent=2.6,
        habit_exponent=2.2,
        place_exponent=1.0,
        events_per_day=2.6,
    )


def demo() -> GeneratorConfig:
    """Return the log of the embedded demo study."""
    return phone()
