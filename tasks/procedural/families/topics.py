"""The few words about which chat and instruction prompts speak, kept small so that a tiny model learns them."""

TOPICS = (
    "apples", "birds", "books", "bread", "bridges", "cats", "clouds", "dogs", "fish", "flowers", "games", "gardens",
    "horses", "lakes", "music", "oceans", "rain", "rivers", "ships", "snow", "stars", "tea", "trains", "trees",
)  # fmt: skip
SKILLS = (
    "baking", "chess", "cooking", "cycling", "dancing", "drawing", "farming", "hiking", "painting", "reading",
    "running", "sailing", "singing", "sleeping", "spelling", "swimming", "typing", "writing",
)  # fmt: skip
NAMES = (
    "Ada", "Ben", "Cara", "Dan", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jack", "Kim", "Leo",
    "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tara", "Vera",
)  # fmt: skip
MOODS = ("angry", "bored", "calm", "happy", "lonely", "nervous", "proud", "sad", "tired", "worried")
