"""What names of columns say: words of several languages for users, items, values, events and times."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["user", "item", "event", "rating", "count", "time", "row", "other"]
"""What a column seems to hold; `row` is a number of orders, sessions or lines, `other` something known of the rest."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_USER: Final = _words(
    "user users uid customer customers cust client clients consumer member members visitor visitors buyer account "
    "person people subscriber shopper reviewer reader listener viewer player student guest patient household borrower "
    "follower rater kunde kunden benutzer nutzer kaeufer besucher mitglied leser hoerer utilisateur usuario cliente "
    "clientes utente klient klant gebruiker msno donor employee"
)
_ITEM: Final = _words(
    "item items product products prod sku article articles asin isbn movie film track song book video game anime "
    "artist material ean gtin upc business restaurant course recipe listing offer stock iid artikel produkt "
    "produkte ware produit producto prodotto articulo livre libro album podcast show poi venue hotel job news document "
    "content asset mid beer joke app place episode channel playlist recording release artid"
)
_ID: Final = _words("id ids no nr num number nummer code key guid uuid ref hash")
_TIME: Final = _words(
    "time timestamp timestamps ts date datetime datum zeit zeitpunkt zeitstempel fecha hora data dt at when moment "
    "unix epoch heure jour created day tijd purchased watched visited happened occurred"
)
_NOT_OF_THE_EVENT: Final = _words(
    "birth birthday born dob expiry expires delivery delivered shipped shipping updated modified release released due "
    "end until last signup registered"
)
_EVENT: Final = _words(
    "event events action actions behavior behaviour behaviors activity interaction aktion ereignis evento evenement "
    "verb accion azione"
)
_RATING: Final = _words(
    "rating ratings rate rated stars star score scores grade overall vote votes bewertung bewertungen note valoracion "
    "punteggio puntuacion sterne beoordeling"
)
_COUNT: Final = _words(
    "quantity qty quantities count counts plays playcount listens menge anzahl stueck stueckzahl quantite cantidad "
    "quantita units times clicks views hours minutes seconds playtime weight frequency freq pieces pcs aantal"
)
_ROW: Final = _words(
    "session sessions order orders transaction transactions trans invoice invoices basket receipt bon beleg bestellung "
    "rechnung ticket request log bestellnummer warenkorb cart purchase line row index zeile record visit"
)
_OTHER: Final = _words(
    "category categories genre genres brand price preis prix precio prezzo cost revenue amount betrag umsatz total "
    "discount city country state region zip postcode gender sex age type color colour size segment group agent "
    "language text comment summary description store seller vendor shop warehouse device channel platform currency "
    "department helpful verified url image status kategorie marke parent helpfulness referrer campaign"
)
_NAMES: Final = _words("name names title titles titel bezeichnung email mail login username")
_ENDINGS: Final = ("nummer", "number", "code", "key", "nr", "no", "id")
_KNOWN: Final = _USER | _ITEM | _ROW | _EVENT | _OTHER


@dataclass(frozen=True)
class Hint:
    """What the name of a column says."""

    role: Role
    strength: int
    """3: it says so, as `customer_id` does; 2: one word does, as `customer`; 1: it might, as `customer_name`."""


NOTHING: Final = Hint("other", 0)


def tokens(name: str) -> list[str]:
    """Return the words of a name, in lower case and without accents: `ClientNo.` is `client no`."""
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name.replace("ß", "ss"))
    for umlaut, letters in {"ä": "ae", "ö": "oe", "ü": "ue"}.items():
        text = text.replace(umlaut, letters).replace(umlaut.upper(), letters)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    found = []
    for word in re.findall(r"[a-z]+|[0-9]+", text):
        ending = next((end for end in _ENDINGS if word.endswith(end) and word[: -len(end)] in _KNOWN), "")
        found += [word[: -len(ending)], ending] if ending else [word]
    return found


def hint(name: str) -> Hint:
    """Return what a name says of its column."""
    words = tokens(name)
    said = frozenset(words)
    has_id = bool(said & _ID)
    if said & _TIME and not (has_id or said & _OTHER):
        return Hint(
            "time", 1 if said & _NOT_OF_THE_EVENT else 3 if len(words) == 1 or not said & (_USER | _ITEM) else 2
        )
    if said & _EVENT and not has_id:
        return Hint("event", 3)
    if said & _RATING and not has_id:
        return Hint("rating", 1 if said & _OTHER else 3)
    if said & _COUNT and not has_id:
        return Hint("count", 2)
    if said & _ROW and not (said & _USER and has_id):
        return Hint("row", 2)
    return _of_ids(said, has_id)


def _of_ids(said: frozenset[str], has_id: bool) -> Hint:
    of_user, of_item = bool(said & _USER), bool(said & _ITEM)
    if of_user == of_item:
        return Hint("item", 1) if not of_user and said & {"title", "titel"} else NOTHING
    role: Role = "user" if of_user else "item"
    if said & _NAMES:
        return Hint(role, 1)
    if said & _OTHER or ("stock" in said and not has_id):
        return NOTHING
    return Hint(role, 3 if has_id or said & {"uid", "sku", "asin", "isbn", "ean", "gtin", "upc", "msno"} else 2)


def is_title(name: str) -> bool:
    """Return whether a column of a table of items seems to hold their names."""
    said = frozenset(tokens(name))
    return bool(said & (_NAMES | {"bezeichnung", "description"})) and not said & {"category", "brand", "store", "shop"}


POSITIVE: Final = {
    1.0: _words(
        "view views viewed pageview pageviews detail details pv click clicks clicked open opened visit seen ansicht "
        "klick vue play played listen listened watch watched stream read search"
    ),
    2.0: _words(
        "like liked fav favorite favourite favorites wishlist wish save saved bookmark follow merkzettel share shared "
        "rate rated add2wishlist addtowishlist interested"
    ),
    3.0: _words(
        "cart addtocart add2cart basket addtobasket warenkorb panier carrito tobasket download downloaded checkout "
        "begincheckout subscribe trial"
    ),
    5.0: _words(
        "purchase purchases purchased buy bought order ordered transaction transactions sale sold kauf gekauft kaufen "
        "achat compra compras bestellung rent rented borrow borrowed book booked booking paid payment acquisto"
    ),
}
"""Usual weights, and the events that get them."""
NEGATIVE: Final = _words(
    "return returned returns refund refunded cancel cancelled canceled cancellation remove removed removefromcart "
    "removefromwishlist dislike disliked unlike unfollow unsubscribe retoure storno rueckgabe zurueck skip skipped "
    "impression impressions shown exposure hide hidden report block blocked retour devolucion"
)
"""Events that are no sign of interest, which are left out."""


_UNDONE: Final = _words("not no non never failed fail abandoned abandon abandonment attempt attempted error declined")


def usual_weight(event: str) -> float | None:
    """Return the usual weight of an event, 0 for one that is no sign of interest; None for an unknown one."""
    words = [word for word in tokens(event) if word not in ("product", "item", "to", "the", "from", "page", "event")]
    joined = "".join(words)
    if _UNDONE & set(words):
        return None
    if any(word in NEGATIVE for word in (*words, joined)):
        return 0.0
    found = [weight for weight, known in POSITIVE.items() if any(word in known for word in (*words, joined))]
    return max(found) if found else None
