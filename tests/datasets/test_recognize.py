"""Tens of tables as shops and services write them: understood rightly or asked about, never silently wrong."""

import numpy as np
import pandas as pd
import pytest

from recsys.datasets.column_names import hint, usual_weight
from recsys.datasets.recognize import recognize
from recsys.errors import DataError

N = 600


def base(n=N, seed=0):
    """Users, items and what else the tables are made of, under plain names."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(1_600_000_000, 1_700_000_000, n))
    return pd.DataFrame(
        {
            "u": rng.integers(1, 60, n),
            "i": rng.integers(1, 40, n),
            "stars": rng.integers(1, 6, n),
            "event": rng.choice(["view", "cart", "purchase"], n, p=[0.7, 0.2, 0.1]),
            "qty": rng.integers(1, 5, n),
            "s": seconds,
            "iso": pd.to_datetime(seconds, unit="s").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "price": rng.lognormal(3, 1, n).round(2),
        }
    )


def of(**names):
    """A table whose columns are those of `base` under these names, or arrays and constants."""
    frame = base()
    given = {
        name: frame[source] if isinstance(source, str) and source in frame else source for name, source in names.items()
    }
    return pd.DataFrame(given, index=frame.index)


def write(folder, frame, **how):
    path = folder / how.pop("name", "events.csv")
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, **{"index": False, **how})
    return path


b = base()
padded = b.u.map("{:06d}".format)
german = pd.to_datetime(b.s, unit="s").dt.strftime("%d.%m.%Y")
american = pd.to_datetime(b.s, unit="s").dt.strftime("%-m/%-d/%Y %H:%M")
returns = pd.Series(np.where(b.event == "cart", "return", b.event))
hundred = b.stars * 20 - (b.i % 10)
signed = b.qty.where(b.i % 9 != 0, -b.qty)

UNDERSTOOD = {
    "plain": (
        of(user_id="u", item_id="i", rating="stars", timestamp="s"),
        {},
        {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp", "min_rating": 4},
    ),
    "shop": (
        of(customer="u", sku="i", event="event", quantity="qty", time="iso"),
        {},
        {
            "user": "customer",
            "item": "sku",
            "rating": "event",
            "timestamp": "time",
            "weights": {"view": 1, "cart": 3, "purchase": 5},
        },
    ),
    "odd names": (
        of(**{"Client No.": "u", "produkt_id": "i", "ts": b.s * 1000}),
        {},
        {"user": "Client No.", "item": "produkt_id", "timestamp": "ts", "time_unit": "ms"},
    ),
    "microseconds": (of(uid="u", iid="i", ts=b.s * 10**6), {}, {"user": "uid", "item": "iid", "time_unit": "us"}),
    "MovieLens": (
        of(userId="u", movieId="i", rating="stars", timestamp="s"),
        {},
        {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"},
    ),
    "Amazon": (
        of(reviewerID=padded, asin="i", overall="stars", unixReviewTime="s", helpful="qty"),
        {},
        {"user": "reviewerID", "item": "asin", "rating": "overall", "timestamp": "unixReviewTime"},
    ),
    "BookCrossing": (
        of(**{"User-ID": "u", "ISBN": padded, "Book-Rating": b.stars * 2}),
        {"sep": ";", "encoding": "latin-1", "quoting": 1},
        {"user": "User-ID", "item": "ISBN", "rating": "Book-Rating", "min_rating": 8},
    ),
    "RetailRocket": (
        of(timestamp=b.s * 1000, visitorid="u", event="event", itemid="i", transactionid="qty"),
        {},
        {"user": "visitorid", "item": "itemid", "rating": "event", "timestamp": "timestamp", "time_unit": "ms"},
    ),
    "REES46": (
        of(
            event_time="iso",
            event_type="event",
            product_id="i",
            category_id="qty",
            category_code=b.stars.map("c{}".format),
            brand="x",
            price="price",
            user_id="u",
            user_session=padded,
        ),
        {},
        {"user": "user_id", "item": "product_id", "rating": "event_type", "timestamp": "event_time"},
    ),
    "Online Retail": (
        of(
            InvoiceNo=b.s // 1000,
            StockCode=b.i.map("{}A".format),
            Description="x",
            Quantity=signed,
            InvoiceDate=american,
            UnitPrice="price",
            CustomerID="u",
            Country="UK",
        ),
        {},
        {
            "user": "CustomerID",
            "item": "StockCode",
            "rating": "Quantity",
            "min_rating": 1,
            "duplicates": "sum",
            "timestamp": None,
        },
    ),
    "Last.fm": (
        of(userID="u", artistID="i", weight=b.qty * 97),
        {"sep": "\t"},
        {"user": "userID", "item": "artistID", "rating": "weight", "binary": True, "min_rating": None},
    ),
    "German": (
        of(Kundennummer=padded, Artikelnummer="i", Menge="qty", Datum=german),
        {"sep": ";"},
        {"user": "Kundennummer", "item": "Artikelnummer", "rating": "Menge", "timestamp": None},
    ),
    "umlauts": (
        of(Käufer=b.u.map("Müller {}".format), Artikel="i"),
        {"encoding": "cp1252"},
        {"user": "Käufer", "item": "Artikel", "encoding": "cp1252"},
    ),
    "UTF-16": (of(Käufer="u", Artikel="i"), {"encoding": "utf-16"}, {"user": "Käufer", "item": "Artikel"}),
    "French": (
        of(utilisateur="u", produit="i", quantité="qty"),
        {"sep": "|"},
        {"user": "utilisateur", "item": "produit", "rating": "quantité"},
    ),
    "decimal commas": (
        of(kunde="u", artikel="i", bewertung=(b.stars / 2).map(lambda v: f"{v:.1f}".replace(".", ","))),
        {"sep": ";"},
        {"rating": "bewertung", "min_rating": 2},
    ),
    "quoted": (
        of(customer=b.u.map('Doe, "J" {}'.format), item="i"),
        {"quoting": 1},
        {"user": "customer", "item": "item"},
    ),
    "leading zeros": (of(user=padded, item="i"), {}, {"user": "user"}),
    "scale to 100": (of(user="u", item="i", score=hundred), {}, {"rating": "score", "min_rating": 71}),
    "half stars": (of(user="u", item="i", stars=b.stars / 2), {}, {"min_rating": 2}),
    "thumbs": (of(user="u", item="i", rating=b.i % 2), {}, {"min_rating": 1}),
    "returns": (of(user="u", item="i", action=returns), {}, {"weights": {"view": 1, "purchase": 5, "return": 0}}),
    "two columns": (of(member="u", book="i"), {}, {"user": "member", "item": "book", "binary": True, "rating": None}),
    "the other way round": (of(product="i", customer="u"), {}, {"user": "customer", "item": "product"}),
    "an index column": (of(**{"Unnamed: 0": range(N), "user": "u", "item": "i"}), {}, {"user": "user", "item": "item"}),
    "orders": (
        of(order_id=b.s, order_date="iso", customer_id="u", product_id="i", quantity="qty", total_amount="price"),
        {},
        {"user": "customer_id", "item": "product_id", "rating": "quantity", "timestamp": "order_date"},
    ),
    "names beside ids": (
        of(customer_id="u", customer_name=b.u.map("N{}".format), product_id="i", product_name=b.i.map("P{}".format)),
        {},
        {"user": "customer_id", "item": "product_id"},
    ),
    "two names of one": (of(user="u", sku="i", ean=b.i + 10**12), {}, {"user": "user", "item": "sku"}),
    "parquet": (
        of(customer="u", sku="i", at=pd.to_datetime(b.s, unit="s")),
        {"name": "t.parquet"},
        {"timestamp": "at", "time_unit": None},
    ),
    "json lines": (of(customer="u", sku="i", event="event"), {"name": "t.jsonl"}, {"rating": "event"}),
    "text file": (of(customer="u", sku="i"), {"name": "t.txt", "sep": "\t"}, {"layout": "csv"}),
    "quotes in a tsv": (
        of(customer=b.u.map("c {}".format), sku="i"),
        {"name": "t.tsv", "sep": "\t", "quoting": 1},
        {"layout": "csv"},
    ),
    "gzip": (of(customer="u", sku="i"), {"name": "t.csv.gz"}, {"user": "customer"}),
    "a day is enough": (of(customer="u", sku="i", day=b.iso.str[:10]), {}, {"timestamp": "day"}),
    "two times": (of(customer="u", sku="i", created_at="iso", updated_at="iso"), {}, {"timestamp": "created_at"}),
    "Taobao": (
        of(user="u", item="i", behavior=b.event.map({"view": "pv", "cart": "fav", "purchase": "buy"})),
        {},
        {"weights": {"pv": 1, "fav": 2, "buy": 5}},
    ),
    "events of another name": (of(user="u", item="i", what="event"), {}, {"rating": "what"}),
    "words of ids": (of(user=b.u.map("null{}".format), item=b.i.map("NA{}".format)), {}, {"user": "user"}),
}
"""Table, how it is written, and keys that must come of it; None: that there is none."""

ASKED = {
    "empty file": ("", "is empty"),
    "header alone": ("user,item\n", "0 rows"),
    "a few rows": ("user,item\n1,2\n3,4\n", "too few"),
    "one column": ("user\n" + "1\n" * 50, "one column"),
    "no header": ("".join(f"{k % 7},{k % 5},{k}\n" for k in range(60)), "no header.*names"),
    "no header, with dates": ("".join(f"a{k % 7},b{k % 5},2024-01-0{k % 9 + 1}\n" for k in range(60)), "no header"),
    "no header, text alone": ("".join(f"a{k % 7},b{k % 5}\n" for k in range(60)), "which, .*user.*no header"),
    "unknown names": (of(x="u", y="i"), "no column is called.*user"),
    "no items": (of(user="u", y="i"), "no column is called.*item"),
    "two users": (of(customer_id="u", client_id=b.u % 7, item="i"), "several columns may hold the users.*customer_id"),
    "two products": (of(user="u", product_id="i", item_id=b.i % 7), "several columns may hold the items"),
    "missing users": (of(customer=b.u.where(b.i > 3), sku="i"), "have no user in 'customer'"),
    "missing ratings": (of(user="u", item="i", rating=b.stars.where(b.i > 3)), "have no number in 'rating'"),
    "unknown events": (
        of(user="u", item="i", event=b.event.replace("cart", "frobnicate")),
        "frobnicate.*weights.frobnicate",
    ),
    "failed payments": (of(user="u", item="i", event=b.event.replace("cart", "payment failed")), "payment failed"),
    "events by number": (of(user="u", item="i", event="stars"), "worth"),
    "ratings in words": (of(user="u", item="i", rating=b.stars.map(lambda v: "abcdef"[v] * 3)), "worth"),
    "only returns": (
        of(user="u", item="i", event=b.event.where(b.u < 0, "return").mask(b.u > 30, "refund")),
        "no event",
    ),
    "times that are none": (of(user="u", item="i", timestamp=german), "'timestamp' holds dates such as"),
    "times with gaps": (of(user="u", item="i", timestamp=b.s.where(b.i > 3)), "lacks a time"),
    "each row its own user": (of(user=range(N), item="i"), "user of its own"),
    "one item": (of(user="u", item="x"), "1 different ids"),
    "lists": (of(user="u", items=[[1, 2]] * N), "no ids|holds"),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_understood(case, tmp_path):
    frame, how, expected = UNDERSTOOD[case]
    found = recognize(write(tmp_path, frame, **how))
    assert {key: found.options.get(key) for key in expected} == expected


@pytest.mark.parametrize("case", ASKED)
def test_asked(case, tmp_path):
    made, message = ASKED[case]
    path = tmp_path / "events.csv"
    if isinstance(made, str):
        path.write_text(made)
    else:
        path = write(tmp_path, made, name="events.parquet" if case == "lists" else "events.csv")
    with pytest.raises(DataError, match=f"(?s){message}"):
        recognize(path)


def test_what_is_not_sure_is_said(tmp_path):
    def doubts(frame, **how):
        return " | ".join(recognize(write(tmp_path, frame, **how)).doubts)

    assert "31" not in doubts(of(user="u", item="i", time="iso"))
    said = doubts(of(user="u", item="i", Datum=german))
    assert "holds dates such as" in said
    assert "times are written 2026-08-31" in said
    iso = base()["iso"].astype(str)
    iso.iloc[7] = "yesterday"
    said = doubts(of(user="u", item="i", time=iso))
    assert "'time' holds values that are no times, such as 'yesterday'" in said
    assert "dates such as" not in said
    assert "cp1252" in doubts(of(Käufer="u", item="i"), encoding="latin-1")
    assert "everybody without an account" in doubts(of(user=b.u.where(b.i > 15, 0), item="i"))
    assert "capital letters alone" in doubts(
        of(user=b.u.map(lambda v: f"U{v % 20}" if v < 40 else f"u{v % 20} "), item="i")
    )
    assert "'not rated'" in doubts(of(user="u", item="i", rating=b.stars.where(b.i > 20, 0)))
    assert "still one" in doubts(of(user="u", item="i", event=returns))
    assert "like a count" in doubts(of(user="u", item="i", score=b.s))
    assert "say the same" in doubts(of(user="u", sku="i", ean=b.i + 10**12))
    assert "0 or less" in doubts(of(user="u", item="i", quantity=signed))
    assert "read from 'customer_name'" in doubts(of(customer_name=b.u.map("N{}".format), item="i"))


def test_what_is_said_goes_first(tmp_path):
    path = write(tmp_path, of(x="u", y="i", z="stars", w="iso"))
    found = recognize(path, said={"user": "x", "item": "y", "rating": "z", "timestamp": "w"})
    assert found.options["user"] == "x"
    assert found.options["timestamp"] == "w"
    with pytest.raises(DataError, match=r"no column 'xx'.*did you mean 'x'"):
        recognize(path, said={"user": "xx", "item": "y"})
    odd = write(tmp_path, of(user="u", item="i", event=b.event.replace("cart", "frobnicate")))
    weights = recognize(odd, said={"weights": {"frobnicate": 2}}).options["weights"]
    assert weights == {"view": 1, "frobnicate": 2, "purchase": 5}


def test_duplicates_are_counted_and_settled(tmp_path):
    frame = of(user="u", item="i")
    found = recognize(write(tmp_path, frame))
    repeated = int(frame.duplicated().sum())
    assert f"{repeated:,} rows repeat" in str(found)
    assert found.options["duplicates"] == "sum"
    assert "duplicates" not in recognize(write(tmp_path, frame.drop_duplicates())).options
    assert recognize(write(tmp_path, of(user="u", item="i", rating="stars"))).options["duplicates"] == "last"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Kunden-Nr.", "user"),
        ("customerId", "user"),
        ("VIDEO_ID", "item"),
        ("order_item_id", "row"),
        ("item_price", "other"),
        ("user_rating", "rating"),
        ("purchased_at", "time"),
        ("interaction_type", "event"),
        ("customer_city", "other"),
    ],
)
def test_names(name, role):
    assert hint(name).role == role


@pytest.mark.parametrize(
    ("event", "weight"),
    [
        ("Product Viewed", 1),
        ("addToCart", 3),
        ("remove_from_cart", 0),
        ("Order completed", 5),
        ("purchase return", 0),
        ("not_purchased", None),
        ("unsubscribed", None),
        ("17", None),
    ],
)
def test_events(event, weight):
    assert usual_weight(event) == weight
