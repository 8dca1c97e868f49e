"""Generated movie ratings of any size: a data set that needs no download."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recsys.errors import DataError
from recsys.frames import index_type
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.options import Seed
from recsys.params import random_generator

Floats = npt.NDArray[np.float64]

_START: Final = 1_672_531_200  # 2023-01-01 00:00:00 UTC
_SPAN: Final = 730 * 86_400
_STYLES: Final = 3
_BLOCK: Final = 2**22  # users × items weighted at once: 32 MiB of float64

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


def synthetic(users: int = 2000, items: int = 800, interactions: int = 120_000, *, seed: Seed = 0) -> Interactions:
    """Generate movie ratings with popular and rare items, active and inactive users, and tastes that a model can learn.

    User u chooses n items without replacement, item i with weight

        popularity_i · (0.2 + Σ_g taste_ug genre_ig · G) · exp(style_u · style_i)

    where popularity is Zipf-Mandelbrot, taste is a sparse Dirichlet mixture over G genres, an item belongs to one or
    two genres, n is log-normal, and the draw takes the n smallest of Exp(1) / weight (Efraimidis & Spirakis 2006).
    A rating is the sum of user bias, item quality, match of taste and of style, and noise, rounded and clipped to 1..5.
    The noun of a title tells the item's main genre. Time is users × items; memory is bounded by working in blocks.

    Args:
        users: number of generated users, with ids 1..users.
        items: number of generated items, with ids 1..items; with few interactions some have none.
        interactions: exact number of generated (user, item) pairs; each user has 5 or more if possible.
        seed: seed of the generator; equal seeds give equal data.

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
    rng = random_generator(seed)
    genres, main_genre = _item_genres(rng, items)
    titles = _titles(rng, main_genre)
    popularity = (rng.permutation(items) + 0.03 * items + 1) ** -1.4
    quality = _standard(np.log(popularity)) * 0.3 + rng.standard_normal(items)
    item_styles = rng.standard_normal((items, _STYLES))
    tastes = rng.dirichlet(np.full(len(_GENRES), 0.12), size=users)
    user_styles = rng.standard_normal((users, _STYLES)) * 0.5
    counts = _activity(rng, users, items, interactions)

    indices, liking = _choose(rng, counts, popularity, (tastes, genres), (user_styles, item_styles))
    rows = np.repeat(np.arange(users), counts)
    opinion = 0.4 * rng.standard_normal(users)[rows] + 0.35 * quality[indices]
    opinion += 0.3 * _standard(liking[0]) + 0.55 * _standard(liking[1])
    ratings = np.clip(np.rint(3.6 + opinion + 0.72 * rng.standard_normal(interactions)), 1, 5)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(index_type(interactions))
    matrix = sp.csr_matrix((ratings.astype(np.float32), indices, indptr), shape=(users, items))
    user_ids, item_ids = (IdMap(np.arange(1, n + 1)) for n in matrix.shape)
    return Interactions(matrix, user_ids, item_ids, timestamps=_times(rng, rows, users), titles=titles)


def _choose(
    rng: np.random.Generator,
    counts: npt.NDArray[np.int64],
    popularity: npt.NDArray[np.floating],
    tastes: tuple[Floats, Floats],
    styles: tuple[Floats, Floats],
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Return the items chosen by each user, and how well each matches: log taste and style, (2, n)."""
    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices = np.empty(indptr[-1], dtype=np.int32)
    liking = np.empty((2, indptr[-1]))
    rows_at_once = max(1, _BLOCK // len(popularity))
    for first in range(0, len(counts), rows_at_once):
        block = slice(first, min(first + rows_at_once, len(counts)))
        taste = 0.2 + len(_GENRES) * (tastes[0][block] @ tastes[1].T)
        style = styles[0][block] @ styles[1].T
        keys = rng.standard_exponential(taste.shape) / (popularity * taste * np.exp(style))
        for row, user in enumerate(range(block.start, block.stop)):
            chosen = np.sort(np.argpartition(keys[row], counts[user] - 1)[: counts[user]])
            entries = slice(indptr[user], indptr[user + 1])
            indices[entries] = chosen
            liking[:, entries] = np.log(taste[row, chosen]), style[row, chosen]
    return indices, liking


def _activity(rng: np.random.Generator, users: int, items: int, interactions: int) -> npt.NDArray[np.int64]:
    """Return log-normal numbers of items per user, (users,), that add up to `interactions`."""
    most = max(1, 3 * items // 4)
    fewest = min(5, interactions // users, most)
    weights = rng.lognormal(sigma=0.9, size=users)
    low, high = 0.0, most / weights.min()
    for _ in range(100):  # bisection: the clipped sum grows with the scale
        scale = (low + high) / 2
        fits = np.clip(np.floor(weights * scale), fewest, most).sum() <= interactions
        low, high = (scale, high) if fits else (low, scale)
    counts = np.clip(np.floor(weights * low), fewest, most).astype(np.int64)
    # The remainder that rounding down left goes, one each, to users below the maximum.
    while missing := interactions - int(counts.sum()):
        counts[rng.permutation(np.flatnonzero(counts < most))[:missing]] += 1
    return counts


def _item_genres(rng: np.random.Generator, items: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the share of each genre in each item, (items, n_genres), and each item's main genre, (items,)."""
    main = rng.integers(len(_GENRES), size=items)
    second = (main + rng.integers(1, len(_GENRES), size=items)) % len(_GENRES)
    share = np.where(rng.random(items) < 0.4, 0.4, 0.0)
    genres = np.zeros((items, len(_GENRES)))
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
        order = rng.permutation(len(_PATTERNS) * len(adjectives) * len(nouns))
        for number, film in enumerate(np.flatnonzero(main_genre == genre)):
            part, place = divmod(number, len(order))
            rest, noun = divmod(int(order[place]), len(nouns))
            pattern, adjective = divmod(rest, len(adjectives))
            name = _PATTERNS[pattern].format(adjective=adjectives[adjective], noun=nouns[noun])
            titles[film] = f"{name}{f', Part {part + 1}' if part else ''} ({years[film]})"
    return titles


def _times(rng: np.random.Generator, rows: npt.NDArray[np.int64], users: int) -> npt.NDArray[np.int64]:
    """Return the time of each interaction in seconds: users arrive over the whole span and stay for some months."""
    arrival = 0.95 * _SPAN * rng.random(users)
    stay = np.minimum(7 * 86_400 + 120 * 86_400 * rng.standard_exponential(users), _SPAN - arrival)
    return _START + (arrival[rows] + stay[rows] * rng.random(len(rows))).astype(np.int64)


def _standard(values: Floats) -> Floats:
    """Return `values` with mean 0 and, unless all are equal, standard deviation 1."""
    centered: Floats = values - values.mean()
    return centered / (centered.std() or 1.0)
