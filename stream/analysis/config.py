"""What the analysis looks at, and how."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from contract.config import Config
from stream.analysis.anomalies import AnomalyConfig
from stream.analysis.bars import BarsConfig
from stream.analysis.trend import TrendConfig
from stream.analysis.widths import DAY_S

# Fixed: a shard's state is that of its nodes, and a checkpoint cannot be split in another way.
SHARDS: Final = 8


class AnalysisConfig(Config):
    """Bars, trends and anomalies, worked out of the readings as they come."""

    trigger_interval_s: float = Field(5.0, ge=0, description="seconds from the start of one micro-batch to the next")
    max_offsets_per_trigger: int = Field(10_000, ge=1, description="most records in one micro-batch")
    partitions: int = Field(
        2, ge=1, le=SHARDS, description="tasks that the state is worked on by; the checkpoint keeps the first answer"
    )
    step_s: int = Field(10, ge=1, le=86_400, description="seconds; trends and anomalies are those of means over steps")
    grace_s: float = Field(
        5.0, ge=0, description="seconds that a step waits for readings out of order; later ones are counted as late"
    )
    silence_s: float = Field(
        60.0, ge=1, description="seconds for which a series is waited for while others of its node go on"
    )
    gone_after_s: float = Field(
        86_400.0,
        ge=60,
        description="seconds without any reading of a device after which incidents of it that last end as silent",
    )
    max_series: int = Field(
        20_000, ge=1, le=30_000, description=f"series in each of {SHARDS} shards; what is beyond is counted, no more"
    )
    price: str = Field("price", min_length=1, description="last word of the metrics that bars are made of")
    volume: str = Field(
        "volume", min_length=1, description="last word of the metric beside a price that tells the day's volume so far"
    )
    bars: BarsConfig | None = Field(BarsConfig(), description="open, high, low, close; null: no bars")
    trend: TrendConfig | None = Field(TrendConfig(), description="level, slope, regime; null: no trends")
    anomalies: AnomalyConfig | None = Field(AnomalyConfig(), description="what is unusual; null: not looked for")

    @property
    def step_ms(self) -> int:
        """A step in ms."""
        return self.step_s * 1000

    @property
    def widest_ms(self) -> int:
        """The width of the widest bars, in ms; a day, where there are none as wide."""
        widths_s = () if self.bars is None else self.bars.widths_s
        return max((DAY_S, *widths_s)) * 1000
