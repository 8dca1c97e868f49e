"""Made-up film ratings of any size: the data set that needs no download."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions

Floats = npt.NDArray[np.float64]

_START: Final = 1_672_531_200  # 2023-01-01 00:00:00 UTC
_SPAN: Final = 730 * 86_400
_FEWEST: Final = 5
_STYLES: Final = 3
_BLOCK: Final = 2**22  # users × items weighed at once: 32 MiB of float64

_GENRES: Final = {
    "sea": "Harbour Tide Lighthouse Sailor Reef Captain Anchor Storm",
    "space": "Orbit Comet Starship Nebula Moonbase Signal Eclipse Astronaut",
    "western": "Canyon Sheriff Saddle Prairie Outlaw Stagecoach Mesa Spur",
    "heist": "Vault Diamond Safecracker Getaway Alibi Forgery Casino Ransom",
    "war": "Trench Regiment Bunker Frontline Armistice Sergeant Convoy Siege",
    "music": "Ballad Orchestra Violin Chorus Jukebox Serenade Drummer Encore",
    "court": "Verdict Witness Jury Oath Barrister Testimony Appeal Tribunal",
    "haunting": "Ghost Mansion Seance Crypt Whisper Phantom Graveyard Attic",
    "romance": "Bride Letter Waltz Garden Promise Sweetheart Rendezvous Kiss",
    "sport": "Champion Boxer Stadium Marathon Goalkeeper Trophy Rookie Coach",
    "spy": "Cipher Embassy Courier Defector Dossier Agent Checkpoint Alias",
    "family": "Puppy Treehouse Birthday Kite Picnic Snowman Carousel Grandfather",
    "fantasy": "Dragon Wizard Kingdom Enchantress Amulet Griffin Prophecy Throne",
    "detective": "Clue Inspector Fingerprint Cellar Suspect Ledger Footprint Motive",
    "jungle": "River Expedition Temple Panther Waterfall Idol Explorer Canopy",
    "robots": "Android Circuit Automaton Replica Algorithm Mainframe Cyborg Engine",
    "school": "Classroom Teacher Diploma Dormitory Recess Scholarship Locker Prom",
    "kitchen": "Chef Bakery Recipe Vineyard Banquet Spoon Restaurant Orchard",
    "mountain": "Summit Avalanche Glacier Climber Ridge Lodge Valley Crevasse",
    "royalty": "Queen Palace Crown Duchess Courtier Heir Masquerade Coronation",
    "city": "Taxi Skyline Subway Rooftop Boulevard Tenement Streetlight Avenue",
    "monster": "Creature Swamp Claw Werewolf Lagoon Beast Cavern Hunger",
    "theatre": "Curtain Understudy Playwright Stage Rehearsal Marquee Puppet Audition",
    "farm": "Harvest Scarecrow Barn Meadow Shepherd Windmill Orphan Homestead",
}
_ADJECTIVES: Final = (
    "Quiet Crimson Broken Golden Silent Hidden Last Distant Burning Frozen Wandering Forgotten Pale Bitter "
    "Restless Velvet Hollow Secret Lonely Midnight Savage Gentle Crooked Scarlet Endless Stolen Winter Electric "
    "Patient Ruined Silver Reckless Borrowed Vanishing Painted Second Northern Blind Faithful Wild"
)
_PATTERNS: Final = (
    "The {adjective} {noun}",
    "{adjective} {noun}",
    "Beyond the {adjective} {noun}",
    "Return to the {adjective} {noun}",
)


def synthetic(users: int = 2000, items: int = 800, interactions: int = 120_000, *, seed: int = 0) -> Interactions:
    """Make up film ratings with popular and rare items, busy and idle users, and tastes that a model can learn.

    A user chooses n items without replacement, item i with weight

        popularity_i · (0.2 + Σ_g taste_ug genre_ig · G) · exp(style_u · style_i)

    where popularity is Zipf-Mandelbrot, taste a sparse Dirichlet mixture over G genres, an item belongs to one or two
    genres, n is log-normal, and the draw takes the n smallest of Exp(1) / weight (Efraimidis & Spirakis 2006).
    The rating is a user bias, the item's quality, the match of taste and of style, and noise, rounded into 1..5.
    A title's noun tells the item's main genre. Time and memory: users × items, in blocks of bounded size.

    Args:
        users: number of users, with ids 1..users.
        items: number of items, with ids 1..items; with few interactions some may have none.
        interactions: number of distinct (user, item) pairs, exactly; each user has 5 or more where that is possible.
        seed: equal seeds give equal data.

    Returns:
        Interactions of shape (users, items) with ratings 1, 2, 3, 4 or 5, timestamps over two years, and titles.

    Raises:
        DataError: a size is not a positive integer, there are fewer interactions than users, or more than half of
            users × items.
    """
    for name, size in {"users": users, "items": items, "interactions": interactions}.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise DataError(f"{name} must be a positive integer, got {size!r}")
    if not users <= interactions <= users * items // 2:
        raise DataError(
            f"interactions must lie between the number of users ({users:,}) and half of users × items "
            f"({users * items // 2:,}), got {interactions:,}; change it, or ask for other numbers of users and items"
        )
    rng = np.random.default_rng(seed)
    genres, main_genre = _item_genres(rng, items)
    titles = _titles(rng, main_genre)
    popularity = (rng.permutation(items) + 0.03 * items + 1) ** -1.4
    quality = _standard(np.log(popularity)) * 0.3 + rng.standard_normal(items)
    item_styles = rng.standard_normal((items, _STYLES))
    tastes = rng.dirichlet(np.full(len(_GENRES), 0.12), size=users)
    user_styles = rng.standard_normal((users, _STYLES)) * 0.5
    counts = _activity(rng, users, items, interactions)

    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices = np.empty(interactions, dtype=np.int32)
    liking = np.empty((2, interactions))  # how well each chosen item meets the user's taste, and style
    rows_at_once = max(1, _BLOCK // items)
    for first in range(0, users, rows_at_once):
        block = slice(first, min(first + rows_at_once, users))
        taste = 0.2 + len(_GENRES) * (tastes[block] @ genres.T)
        style = user_styles[block] @ item_styles.T
        keys = rng.standard_exponential(taste.shape) / (popularity * taste * np.exp(style))
        for row, user in enumerate(range(block.start, block.stop)):
            chosen = np.sort(np.argpartition(keys[row], counts[user] - 1)[: counts[user]])
            entries = slice(indptr[user], indptr[user + 1])
            indices[entries] = chosen
            liking[:, entries] = np.log(taste[row, chosen]), style[row, chosen]

    rows = np.repeat(np.arange(users), counts)
    opinion = 0.4 * rng.standard_normal(users)[rows] + 0.35 * quality[indices]
    opinion += 0.3 * _standard(liking[0]) + 0.55 * _standard(liking[1])
    ratings = np.clip(np.rint(3.6 + opinion + 0.72 * rng.standard_normal(interactions)), 1, 5)
    matrix = sp.csr_matrix((ratings.astype(np.float32), indices, indptr.astype(np.int32)), shape=(users, items))
    return Interactions(
        matrix,
        IdMap(np.arange(1, users + 1)),
        IdMap(np.arange(1, items + 1)),
        timestamps=_times(rng, rows, users),
        titles=titles,
    )


def _activity(rng: np.random.Generator, users: int, items: int, interactions: int) -> npt.NDArray[np.int64]:
    """Return log-normal numbers of items per user, (users,), that add up to `interactions`."""
    fewest, most = min(_FEWEST, interactions // users), max(1, 3 * items // 4)
    fewest = min(fewest, most)
    weights = rng.lognormal(sigma=0.9, size=users)
    low, high = 0.0, most / weights.min()
    for _ in range(100):  # the clipped sum grows with the scale: halve towards the one that fits
        scale = (low + high) / 2
        if np.clip(np.floor(weights * scale), fewest, most).sum() > interactions:
            high = scale
        else:
            low = scale
    counts = np.clip(np.floor(weights * low), fewest, most).astype(np.int64)
    # What flooring left over goes, one each, to users with room.
    while missing := interactions - int(counts.sum()):
        counts[rng.permutation(np.flatnonzero(counts < most))[:missing]] += 1
    return counts


def _item_genres(rng: np.random.Generator, items: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the share of each genre in each item, (items, n_genres), and each item's main genre, (items,)."""
    n_genres = len(_GENRES)
    main = rng.integers(n_genres, size=items)
    second = (main + rng.integers(1, n_genres, size=items)) % n_genres
    share = np.where(rng.random(items) < 0.4, 0.4, 0.0)
    genres = np.zeros((items, n_genres))
    genres[np.arange(items), main] = 1 - share
    genres[np.arange(items), second] += share
    return genres, main


def _titles(rng: np.random.Generator, main_genre: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    """Return one distinct title per item, (items,)."""
    years = 1950 + (73 * np.sqrt(rng.random(len(main_genre)))).astype(int)
    titles = np.empty(len(main_genre), dtype=object)
    adjectives = _ADJECTIVES.split()
    for genre, words in enumerate(_GENRES.values()):
        nouns = words.split()
        films = np.flatnonzero(main_genre == genre)
        order = rng.permutation(len(_PATTERNS) * len(adjectives) * len(nouns))
        for number, film in enumerate(films):
            part, place = divmod(number, len(order))
            rest, noun = divmod(int(order[place]), len(nouns))
            pattern, adjective = divmod(rest, len(adjectives))
            name = _PATTERNS[pattern].format(adjective=adjectives[adjective], noun=nouns[noun])
            titles[film] = f"{name}{f', Part {part + 1}' if part else ''} ({years[film]})"
    return titles


def _times(rng: np.random.Generator, rows: npt.NDArray[np.int64], users: int) -> npt.NDArray[np.int64]:
    """Return the second of each interaction: users arrive over the whole span and stay for some months."""
    arrival = 0.95 * _SPAN * rng.random(users)
    stay = np.minimum(7 * 86_400 + 120 * 86_400 * rng.standard_exponential(users), _SPAN - arrival)
    return _START + (arrival[rows] + stay[rows] * rng.random(len(rows))).astype(np.int64)


def _standard(values: Floats) -> Floats:
    """Return `values` with mean 0 and, where they differ, standard deviation 1."""
    centred: Floats = values - values.mean()
    return centred / (centred.std() or 1.0)
