# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The live database: what is in it, and how good it is
#
# Everything that devices measured, and everything that was made of it, stands in one PostgreSQL.
# This notebook goes through it with a role that can only read:
#
# 1. who is there, and what came when,
# 2. readings, raw and rolled up,
# 3. bars and trends of prices,
# 4. forecasts against what came, and **whether they beat saying that nothing changes**,
# 5. anomalies, with the readings that made them,
# 6. what was lost,
# 7. and how to take a training set out of it.
#
# `make demo` in another terminal gives it something to read: run this again while it fills. What
# is not there yet is said, and left out. For a database of your own say which, in the environment
# variable `HEADWATER_READER_DSN`, and whose readings you want to see, in the next cell.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psycopg2
from IPython.display import Markdown
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MultipleLocator
from rich.console import Console

import models
from models.data import describe
from models.data.kept import keep
from models.data.timescale import DSN_ENV, connected, load_live
from models.errors import DataError
from models.evaluation.skill import block_length, ratio_interval, summed
from models.options import DATA, Options
from models.recipes.tank_level import TANK_LEVEL
from models.samples import samples_of

ROOT = Path(models.__path__[0]).parent
plt.style.use(ROOT / "models/notebooks/headwater.mplstyle")

DEVICE, METRIC = "demo/edge-1/line-a", "tank2/level"


def few_times(axes):
    """Ticks that do not run into each other where plots are narrow."""
    for ax in axes:
        ax.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=5))
        ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))


# %% [markdown]
# ## Connecting
#
# The connection string is that of the environment, or else the one which the demo leaves for
# people at psql. It stands in no notebook: whoever gets the notebook would get the password.
#
# Each query is a transaction of its own, read-only. One that stayed open while you look at a plot
# would keep the database from clearing up behind itself.


# %%
class NoDatabaseError(Exception):
    """Shown as one line, without a traceback; the cells after it are not run."""

    def _render_traceback_(self):
        return [
            f"No database: {self}. Run `make demo`, or set HEADWATER_READER_DSN; then run again."
        ]


def query(statement, **values):
    """The rows of a statement, their times in UTC."""
    with connected() as opened, opened.cursor() as cursor:
        cursor.execute(statement, values)
        rows = pd.DataFrame(cursor.fetchall(), columns=[each.name for each in cursor.description])
        times = [each.name for each in cursor.description if each.type_code == psycopg2.DATETIME]
    return rows.assign(**{name: pd.to_datetime(rows[name], utc=True) for name in times})


demo = ROOT / ".stack/run/demo/reader.dsn"
dsn = os.environ.get("HEADWATER_READER_DSN")
if not dsn and not demo.exists():
    raise NoDatabaseError("none was named, and no demo has run here")
os.environ[DSN_ENV] = dsn or demo.read_text().strip()  # where the package `models` looks for it
try:
    newest = query("select max(last_seen_at) as at from node")["at"][0]
except DataError as exc:
    raise NoDatabaseError(exc) from None
if pd.isna(newest):
    raise NoDatabaseError("it is empty, nothing has been heard of any node yet")

since = newest - pd.Timedelta(hours=2)
print(
    f"up to {newest:%Y-%m-%d %H:%M:%S} UTC, when a node was last heard; plots begin at {since:%H:%M}"
)

# %% [markdown]
# ## Who is there
#
# A **node** is an agent, a **device** one of its sources. A node is offline when the broker says
# so (its last will), and `last_seen_at` is the cloud's clock: a device with a wrong clock does not
# look dead.

# %%
query("""
    select group_id, node_id, online, last_seen_at, last_birth_at, count(series_id) as series
    from node left join series using (group_id, node_id)
    group by group_id, node_id order by 1, 2""")

# %% [markdown]
# A **series** is one metric of a device. One that changes its unit goes on as another version, so
# that no plot joins metres to feet.

# %%
query("""
    select concat_ws('/', group_id, node_id, nullif(device_id, '')) as device, kind, count(*) as series,
           string_agg(distinct unit, ', ') as units, (array_agg(metric order by metric))[1:4] as "such as"
    from series group by 1, 2 order by 1, 2""")

# %% [markdown]
# What came when: minutes of each device, from the roll-up, beside what is usual for it.

# %%
arrivals = query(
    """
    select concat_ws('/', group_id, node_id, nullif(device_id, '')) as device, bucket_at,
           sum(n_good)::float8 as good, sum(n_bad)::float8 as bad
    from series join reading_bucketed(array(select series_id from series where kind = 'numeric'),
                                      %(since)s, %(newest)s, '1 minute') using (series_id)
    where bucket_at >= %(since)s
    group by 1, 2 order by 1, 2""",
    since=since,
    newest=newest.floor("min"),
)


def draw_arrivals(ax, rows, most=30):
    """A row for each device; returns their names in that order."""
    good = rows.pivot_table("good", "device", "bucket_at").iloc[:most]
    good = good.reindex(columns=pd.date_range(good.columns[0], good.columns[-1], freq="min"))
    share = (good.div(good.median(axis=1), axis=0).clip(0, 1)).fillna(0)
    edges = good.columns.append(good.columns[-1:] + pd.Timedelta(minutes=1))
    ax.pcolormesh(edges, np.arange(len(share) + 1), share, cmap="Blues", vmin=0, vmax=1.8)
    ax.hlines(range(1, len(share)), *ax.get_xlim(), colors="white", linewidth=3)
    ax.set_yticks(np.arange(len(share)) + 0.5, share.index)
    ax.invert_yaxis()
    ax.grid(visible=False)
    return list(share.index)


if arrivals.empty:
    print("Nothing of the last two hours is rolled up: is `python -m db maintain` running?")
else:
    figure, ax = plt.subplots(figsize=(9, 0.9 + 0.3 * min(arrivals["device"].nunique(), 30)))
    draw_arrivals(ax, arrivals)
    ax.set_title("good readings, by minute")
    plt.show()

# %% [markdown]
# *How to read it*: blue is as many good readings as this device usually has in a minute, paler is
# fewer, and in a white minute there was none; whether anybody knows why stands under *What was lost*.
#
# ## Readings by roll-up
#
# Nobody draws a month of seconds. `reading_bucketed(series, from, to, width)` reads the widest of
# minutes, hours, days and the readings themselves that the width is a multiple of, so that a plot
# of a year is as quick as one of a minute. Along with the mean it has the least and the greatest,
# and a spike that lasted a second is still there in the band.

# %%
group, node, device = DEVICE.split("/")
series = query(
    """select series_id, unit from series
       where (group_id, node_id, device_id, metric, kind) = (%(g)s, %(n)s, %(d)s, %(m)s, 'numeric')
       order by version desc limit 1""",
    g=group,
    n=node,
    d=device,
    m=METRIC,
)


def draw_series(series_id, unit):
    """The same series by three widths, each over the time that it is good for."""
    _, axes = plt.subplots(1, 3, figsize=(9, 2.9))
    spans = (("1 second", "5 minutes"), ("1 minute", "2 hours"), ("1 hour", "3 days"))
    for number, ((width, span), ax) in enumerate(zip(spans, axes, strict=True)):
        rows = query(
            "select * from reading_bucketed(array[%(id)s], %(to)s - %(span)s::interval, %(to)s, %(width)s) order by 2",
            id=int(series_id),
            to=newest,
            span=span,
            width=width,
        )
        # A bucket without a reading has no row: the line must not go on over it.
        rows = rows.set_index("bucket_at").asfreq(pd.Timedelta(width)).reset_index()
        style = "o-" if len(rows) < 80 else "-"
        ax.fill_between(
            rows["bucket_at"], rows["min"], rows["max"], color=f"C{number}", alpha=0.2, linewidth=0
        )
        ax.plot(rows["bucket_at"], rows["mean"], style, color=f"C{number}", markersize=2)
        first = (rows["bucket_at"].min() if len(rows) else newest) - 3 * pd.Timedelta(width)
        ax.set_xlim(max(newest - pd.Timedelta(span), first), newest)
        ax.set_title(f"{span}, by the {width.removeprefix('1 ')}")
    axes[0].set_ylabel(f"{METRIC} ({unit})" if unit else METRIC)
    few_times(axes)
    plt.show()


if series.empty:
    print(f"{DEVICE} has no numbers called {METRIC}: say at the top what to look at.")
else:
    draw_series(*series.iloc[0])

# %% [markdown]
# *How to read it*: the line is the mean of each bucket and the band goes from its least reading to
# its greatest, so where the band is wide the line hides something; where nothing came, nothing is drawn.
#
# ## Bars and trend
#
# Of prices the stream makes bars: first, highest, lowest and last price of a minute, and the volume.
# For each numeric series it follows a local linear trend: a level, a slope with its standard error,
# and from these a **regime**, which is `up` or `down` only where the slope is more than three
# standard errors from zero.

# %%
bars = query(
    """
    with most as (select series_id from bar where width_s = 60 and starts_at > %(since)s
                  group by 1 order by count(*) desc, 1 limit 1)
    select b.*, s.node_id || '/' || s.device_id || '/' || s.metric as name
    from bar b join most using (series_id) join series s using (series_id)
    where width_s = 60 and starts_at > %(since)s order by starts_at""",
    since=since,
)
trend = query(
    "select * from trend where series_id = any(%(ids)s) and at > %(since)s order by at",
    ids=[int(each) for each in bars["series_id"].unique()],
    since=since,
)


def draw_bars():
    """Candles over their volume, the trend's level by regime."""
    _, (above, below) = plt.subplots(2, sharex=True, figsize=(9, 4.4), height_ratios=(3, 1))
    minute, at = pd.Timedelta(minutes=1), bars["starts_at"]
    rises = bars["close"] >= bars["open"]
    colours = np.where(rises, "C0", "C1")
    above.vlines(at + minute / 2, bars["low"], bars["high"], colors=colours, linewidth=0.8)
    bottom, height = np.minimum(bars["open"], bars["close"]), (bars["close"] - bars["open"]).abs()
    above.bar(at + 0.15 * minute, height, 0.7 * minute, bottom, align="edge", color=colours)
    for regime, colour in (("flat", "C3"), ("up", "C2"), ("down", "C4"), ("changed", "black")):
        level = trend["level"].where(trend["regime"] == regime)
        above.plot(
            trend["at"], level, color=colour, linewidth=2, alpha=0.8, label=f"trend: {regime}"
        )
    below.bar(
        at + 0.15 * minute, bars["volume"].astype(float), 0.7 * minute, align="edge", color="C3"
    )
    above.use_sticky_edges = False
    above.set_title(f"{bars['name'][0]}: bars of a minute")
    below.set_title("volume" if bars["volume"].notna().any() else "volume: none is told")
    above.legend(ncols=4)
    plt.show()


if bars.empty:
    print(
        "No bars of the last two hours: no source tells prices, or Spark's analysis is not running."
    )
else:
    draw_bars()

# %% [markdown]
# *How to read it*: a blue candle closed above its open and an orange one below, the thin line from
# lowest to highest; the trend is green or purple only where the slope stands out from its own error,
# and grey wherever it might as well be nothing.
#
# ## Forecasts against what came
#
# A forecast is quantiles for some times ahead: below the lowest (p10) one outcome in ten should
# fall, above the highest (p90) another. `made_at` is the end of what the model looked at. Shown
# are fans that follow each other without overlap, taken at even times and not for their looks.

# %%
forecasters = query(
    """
    select distinct on (f.model, f.target) f.*, s.metric, s.unit as series_unit
    from forecaster f join series s using (series_id)
    where exists (select from forecast o where o.forecaster_id = f.forecaster_id and o.made_at > %(since)s)
    order by f.model, f.target, f.place, f.forecaster_id desc""",
    since=since,
)


def draw_fans(ax, who):
    """The newest fans of a forecaster, and the readings of what it forecasts."""
    fans = query(
        """select * from forecast where forecaster_id = %(id)s and made_at > %(since)s
           order by made_at, horizon_s""",
        id=int(who.forecaster_id),
        since=since,
    )
    span = pd.Timedelta(seconds=fans["horizon_s"].max())
    drawn = fans[fans["made_at"] > fans["made_at"].iloc[-1] - 8 * span]
    place = (drawn["made_at"].iloc[-1] - drawn["made_at"]) // (1.3 * span)
    drawn = drawn[drawn["made_at"] == drawn.groupby(place)["made_at"].transform("max")]
    came = query(
        """select sampled_at, value from reading where series_id = %(id)s and quality = 192
           and sampled_at between %(since)s and %(to)s order by 1""",
        id=int(who.series_id),
        since=drawn["made_at"].iloc[0] - span,
        to=newest,
    )
    ax.plot(came["sampled_at"], came["value"], color="black", linewidth=1, label="what came")
    for made_at, fan in drawn.groupby("made_at"):
        last = came["value"][came["sampled_at"] <= made_at].tail(1)
        start = pd.DataFrame({"target_at": [made_at] * len(last)}).assign(
            p10=last.to_numpy(), p50=last.to_numpy(), p90=last.to_numpy()
        )
        fan = pd.concat([start, fan[start.columns]])  # noqa: PLW2901 - the same fan, from where it begins
        ax.fill_between(
            fan["target_at"], fan["p10"], fan["p90"], color="C0", alpha=0.25, linewidth=0
        )
        ax.plot(fan["target_at"], fan["p50"], color="C0", linewidth=1)
    ax.axvline(drawn["made_at"].iloc[-1], color="C3", linewidth=0.8, linestyle=":")
    ax.set_title(f"{who.model} {who.version} ({who.place}): {who.metric}")
    ax.set_ylabel(who.series_unit)


if forecasters.empty:
    print(
        "No forecasts of the last two hours: `make models` makes models, and the demo serves them."
    )
else:
    shown = forecasters.head(3)
    figure, axes = plt.subplots(len(shown), figsize=(9, 2.7 * len(shown)), squeeze=False)
    for who, ax in zip(shown.itertuples(), axes.flat, strict=True):
        draw_fans(ax, who)
    axes.flat[0].legend(
        handles=[
            plt.Line2D([], [], color="black", label="what came"),
            Patch(color="C0", alpha=0.4, linewidth=0, label="p10 to p90, middle p50"),
        ]
    )
    plt.show()

# %% [markdown]
# *How to read it*: about eight in ten of the black line's points should lie inside the fans, neither
# fewer (too sure of itself) nor all of them (too vague); the dotted line is where the newest of them was told.
#
# ## Are they any better than naive?
#
# Fans look good whatever they are worth. So each forecast is held against what came, beside the
# **naive** forecast that nothing changes. `forecast_skill` has it by day: `mase_naive` below 1 is
# better than naive, and `coverage` should be about 0.8.

# %%
query(
    """
    select day, model, version, place, target, subject, horizon_s, forecasts, coverage::float8,
           mae, mase_naive, mase_seasonal
    from forecast_skill where day > %(newest)s - interval '7 days'
    order by day desc, model, target, subject, horizon_s, place limit 24""",
    newest=newest,
).round(3)

# %% [markdown]
# A ratio alone does not say whether it is luck. Forecasts that follow each other closely are right
# or wrong together, so the interval comes from drawing whole *blocks* of time again and again: it is
# the one by which `python -m models evaluate` judges.

# %%
scores = query(
    """
    select f.model, f.target, f.subject, f.place, s.horizon_s, abs(s.error) as error,
           abs(s.naive_error) as naive, 1 - s.is_covered::int as is_outside,
           (extract(epoch from s.made_at) * 1000)::bigint as made_ms
    from forecast_score s join forecaster f using (forecaster_id)
    where (f.group_id, f.node_id, f.device_id, f.subject, f.model) in (
            select group_id, node_id, device_id, subject, model from forecaster where forecaster_id = any(%(ids)s))
      and s.target_at > %(newest)s - interval '1 day' and s.target_at <= %(newest)s
      and s.naive_error is not null and s.is_covered is not null
    order by s.made_at""",
    ids=[int(each) for each in forecasters["forecaster_id"]],
    newest=newest,
)


def ratio(rows, ours, theirs):
    """1 - sum of ours / sum of theirs, with its 95 % interval by blocks of time."""
    made_ms = rows["made_ms"].to_numpy(np.int64)
    sums = [summed(each.to_numpy(np.float64), made_ms) for each in (ours, theirs)]
    return ratio_interval(
        *sums, block_length(made_ms, round(1000 * rows["horizon_s"].iloc[0])), seed=1
    )


def judged(rows):
    """Skill of the median over naive, and how often the fan had it, each with the ends of its interval."""
    skill = ratio(rows, rows["error"], rows["naive"])
    inside = ratio(rows, rows["is_outside"], pd.Series(1.0, rows.index))
    return [len(rows), skill.value, skill.low, skill.high, inside.value, inside.low, inside.high]


cells = ["model", "subject", "target", "horizon_s", "place"]
columns = ["forecasts", "skill", "low", "high", "coverage", "from", "to"]
table = pd.DataFrame(
    [judged(rows) for _, rows in scores.groupby(cells)],
    index=pd.MultiIndex.from_tuples(list(scores.groupby(cells).groups), names=cells)
    if len(scores)
    else None,
    columns=columns,
)


def draw_skill():
    """A row for each target and horizon, the places beside each other."""
    rows = table.reset_index()
    names = [
        f"{' '.join(filter(None, (each.model, each.subject, each.target)))}, {each.horizon_s:g} s"
        for each in rows.itertuples()
    ]
    places = list(dict.fromkeys(names))
    _, axes = plt.subplots(1, 2, figsize=(9, 1.1 + 0.3 * len(places)), sharey=True)
    sides = (("skill", "low", "high", 0.0), ("coverage", "from", "to", 0.8))
    for ax, (value, low, high, wanted) in zip(axes, sides, strict=True):
        ax.axvline(wanted, color="black", linewidth=0.8)
        for number, (place, shift) in enumerate((("cloud", -0.13), ("edge", 0.13))):
            mine = rows["place"] == place
            at = np.array([places.index(name) + shift for name in np.array(names)[mine]])
            ends = [rows[value] - rows[low], rows[high] - rows[value]]
            ends = [each[mine].clip(lower=0) for each in ends]
            ax.errorbar(
                rows[value][mine],
                at,
                xerr=ends,
                fmt="o",
                markersize=4,
                color=f"C{number}",
                label=place,
            )
    least = min(-0.25, max(-1.0, rows["low"].min()))
    axes[0].set(title="skill of the median over naive", xlim=(least, 1), yticks=range(len(places)))
    axes[0].xaxis.set_major_locator(MultipleLocator(0.25 if least > -0.5 else 0.5))
    axes[0].set_yticklabels(places)
    axes[0].invert_yaxis()
    axes[1].set(title="share of outcomes inside p10 to p90", xlim=(0, 1))
    axes[1].legend(loc="lower left")
    plt.show()


if table.empty:
    print("Nothing is scored yet: a forecast is when its time has come.")
else:
    draw_skill()

# %% [markdown]
# *How to read it*: a point right of the line at 0 with its whole bar is better than saying that
# nothing changes, **a bar that reaches over 0 shows nothing**; on the right, a bar that misses 0.8
# is a fan of the wrong width.

# %%
words = [
    f"- {' '.join(filter(None, at[:2]))} {at[2]}, {at[3]:g} s, {at[4]}: "
    + (
        f"**better** by {row.skill:.0%}"
        if row.low > 0
        else "worse"
        if row.high < 0
        else "no skill shown"
    )
    + f" (95 %: {row.low:.0%} to {row.high:.0%}; {row.forecasts:.0f} forecasts)"
    for at, row in table.iterrows()
]
Markdown("\n".join(words) or "No forecasts to judge.")

# %% [markdown]
# ## Anomalies, and the readings that made them
#
# An incident is one row from its start to its end, by whom it was found (`detector`), where
# (`place`), and with its **evidence**: the readings that made it so. A detector that looks at one
# series also says what it expected; a model that looks at many together names those that
# contributed most.

# %%
anomalies = query(
    """
    select group_id, node_id, device_id, metric, detector, place, started_at, ended_at, peak_at, peak_score,
           threshold, evidence
    from anomaly where started_at > %(newest)s - interval '1 day' and started_at <= %(newest)s
    order by peak_score / nullif(threshold, 0) desc""",
    newest=newest,
)
anomalies.drop(columns=["evidence", "peak_at"]).head(10).round(2)


# %%
def draw_incident(ax, incident):
    """Readings around an incident, and its evidence of the metric that has most of it."""
    evidence = pd.DataFrame(incident.evidence)
    evidence["of"] = evidence["metric"].str.replace(r" \(.*\)$", "", regex=True)
    metric = evidence.groupby("of")["score"].max().idxmax()
    evidence = evidence[evidence["of"] == metric]
    at = pd.to_datetime(evidence["at"], utc=True, format="ISO8601")
    ended = incident.ended_at if pd.notna(incident.ended_at) else newest
    margin = max(pd.Timedelta(minutes=3), (ended - incident.started_at) / 2)
    readings = query(
        """select sampled_at, value, unit from reading_named
           where (group_id, node_id, device_id, metric) = (%(g)s, %(n)s, %(d)s, %(m)s) and quality = 192
             and sampled_at between %(since)s and %(to)s order by 1""",
        g=incident.group_id,
        n=incident.node_id,
        d=incident.device_id,
        m=metric,
        since=incident.started_at - margin,
        to=ended + margin,
    )
    ax.axvspan(incident.started_at, ended, color="C1", alpha=0.12, linewidth=0)
    ax.plot(readings["sampled_at"], readings["value"], color="black", linewidth=0.9)
    ax.plot(
        at, evidence["expected"].astype(float), "_", color="C2", markersize=9, markeredgewidth=2
    )
    ax.plot(at, evidence["value"].astype(float), "o", color="C1", markersize=3.5)
    unit = f" ({readings['unit'].iloc[0]})" if len(readings) and readings["unit"].iloc[0] else ""
    ax.set_title(
        f"{metric}{unit}\n{incident.detector}: {incident.peak_score:.3g}, alarm at {incident.threshold:.3g}"
    )


has_evidence = anomalies[anomalies["evidence"].map(len) > 0]
if has_evidence.empty:
    print(
        "No incident in the last day: series are judged from 25 minutes on, models when they are served."
    )
else:
    # The strongest of each detector first: one that scores by the thousand would have all the places.
    turn = has_evidence.groupby("detector").cumcount()
    shown = has_evidence.loc[turn.sort_values(kind="stable").index].head(4)
    rows = -(-len(shown) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(9, 0.6 + 2.3 * rows), squeeze=False)
    for ax, incident in zip(axes.flat, shown.itertuples(), strict=False):
        draw_incident(ax, incident)
    few_times(axes.flat)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    figure.legend(
        handles=[
            Patch(color="C1", alpha=0.2, linewidth=0, label="incident"),
            plt.Line2D([], [], color="C1", marker="o", linestyle="", label="evidence"),
            plt.Line2D([], [], color="C2", marker="_", linestyle="", label="expected instead"),
        ],
        loc="outside lower center",
        ncols=3,
    )
    plt.show()

# %% [markdown]
# *How to read it*: the shaded time is the incident and the orange points are the readings that made
# it one; the further they lie from the green dashes the odder they were, and where there are no
# dashes it was how several series went together, which one plot of one series need not show.
#
# ## What was lost
#
# Nodes number their batches, so a missing one is known to be missing. `produced` is the highest
# number that came; `missing` is `undelivered` (the node still keeps it: it should come), `given_up`
# (the node no longer does), or `earlier` than this database.

# %%
query("""
    select group_id, node_id, produced::bigint, stored::bigint, missing::bigint, undelivered::bigint, given_up::bigint,
           earlier::bigint, coalesce(declared_gaps, 0) as declared_gaps, heard_at
    from node_accounting order by missing desc, 1, 2""")

# %%
gaps = query(
    """select node_id, device_id, kind, state, from_at, to_at, batches, reason,
              concat_ws('/', group_id, node_id, nullif(device_id, '')) as device
       from gap where to_at > %(since)s and from_at < %(newest)s order by from_at desc""",
    since=since,
    newest=newest,
)
COLOURS = {"declared": "C1", "open": "C4", "given_up": "black", "earlier": "C3", "filled": "C2"}


def draw_gaps():
    """What came, and a frame where something is known to be missing."""
    figure, ax = plt.subplots(figsize=(9, 1.2 + 0.3 * min(arrivals["device"].nunique(), 30)))
    devices = draw_arrivals(ax, arrivals)
    span = ax.get_xlim()
    kinds = gaps["state"].fillna(gaps["kind"])
    for gap, kind in zip(gaps.itertuples(), kinds, strict=True):
        begin, end = date2num([gap.from_at, gap.to_at])
        for row, name in enumerate(devices):
            # A batch that did not come may have had readings of any of the node's devices.
            if f"{name}/".startswith(f"{gap.device}/"):
                colour = COLOURS.get(kind, "C3")
                ax.add_patch(
                    Rectangle(
                        (begin, row + 0.08),
                        max(end - begin, 1e-4),
                        0.84,
                        fill=False,
                        edgecolor=colour,
                        linewidth=1.6,
                    )
                )
    ax.set_xlim(span)
    ax.set_title(f"good readings by minute, and {len(gaps)} known gaps")
    handles = [
        Patch(fill=False, edgecolor=COLOURS[each], label=each)
        for each in COLOURS
        if each in set(kinds)
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    plt.show()


if not arrivals.empty:
    draw_gaps()
gaps.drop(columns="device").head(8)

# %% [markdown]
# *How to read it*: a frame is a time of which somebody says that readings may be missing, by the
# node's own word (declared) or by batches that did not come; white without a frame is a device that
# was silent or off, which is no loss, and a frame on blue is a loss of part of it.
#
# ## A training set of your own
#
# A recipe says which inputs it wants, in which unit and at which steps; `load_live` brings what the
# database has to exactly that, by the rules that the device and Spark go by as well. `keep` puts it
# aside under a name, so that training, judging and quantizing later see the same data whatever the
# database has forgotten by then.

# %%
QUICK = os.environ.get("HEADWATER_QUICK") == "1"  # a test's: kept beside what else was only tried
data = ROOT / (".models/notebooks-quick" if QUICK else DATA)
options = Options(console=Console(quiet=True), data=data)
recipe = TANK_LEVEL


def steps_of(dataset):
    """Its first table as columns, step by step: one that the database has nothing of is a row of NaN."""
    (table, *_) = dataset.tables
    at = pd.to_datetime(table.steps.at_ms, unit="ms", utc=True)
    steps = pd.DataFrame(table.steps.values, at, dataset.columns)
    return steps.asfreq(pd.Timedelta(seconds=dataset.step_s))


def draw_dataset(dataset):
    """Its columns, by step."""
    _, axes = plt.subplots(2, 3, figsize=(9, 3.6), sharex=True)
    for (name, values), ax in zip(steps_of(dataset).items(), axes.flat, strict=False):
        ax.plot(values.index, values, linewidth=0.7)
        ax.set_title(f"{name} ({dataset.units[name]})")
    few_times(axes[-1])
    plt.show()


samples = None
try:
    dataset = load_live(DEVICE, recipe.view, since.to_pydatetime(), newest.to_pydatetime(), options)
    samples = samples_of(dataset, recipe, stride=recipe.stride)
except DataError as exc:
    print(f"Nothing to train {recipe.name} on yet: {exc}")
else:
    draw_dataset(dataset)

# %% [markdown]
# *How to read it*: each line is one input of the model at the recipe's own steps, and where it breaks
# off there was nothing good to take: windows over a break are not learnt from.

# %%
if samples is not None:
    told, known = describe(dataset), steps_of(dataset).notna().to_numpy().mean()
    print(
        f"{told.rows:,} steps of {told.step_s:g} s, {told.from_at:%H:%M} to {told.to_at:%H:%M};",
        end=" ",
    )
    print(f"between these {known:.1%} of all values are known")
    print(f"x {samples.x.shape}: windows, steps, features", end=";  ")
    print(f"y {samples.y.shape}: windows, targets, horizons")
    name = keep(dataset, options)
    print(f"\npython -m models train {recipe.name} --dataset {name} --name {recipe.name}-mine")

# %% [markdown]
# `python -m models pull` does the same without a notebook. Two hours are enough to see how it goes and
# not to learn from: take weeks, and then let [forecast](forecast.ipynb)'s questions be asked of the result.
#
# ## What to take home
#
# - Ask for buckets, not for readings, unless you want the readings.
# - A forecast is worth what `forecast_score` says, with its interval, and not how its fan looks.
# - Silence, loss and a fault look alike on a plot of values. `gap`, `node_accounting` and `quality`
#   tell them apart.
