"""`Source`: a recording together with its labels and its place in the dataset, the input of a build."""

from dataclasses import dataclass, replace
from pathlib import Path

from detector.config.groups import DataConfig
from detector.labels import FoundLabels, LabelTiming, find_labels, recording_stem
from detector.labels.find import detect_format, searched_names
from detector.utils.remote import Place

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A recording with its labels. Values that are None are found in the folder of the recording or set by the build.

    Args:
        recording: path or address of the recording
        split: train, val or test; by default the name of the folder of the recording
        name: name of the files in the dataset without suffix; by default the name of the recording without suffix
        labels: file or folder with the labels; by default searched beside the recording
        label_format: name of the format of the labels
        timing: unit and offset of the label times, or the frame rate of numbered images
        sensor: height and width of the sensor, for recordings that do not state them
        event_format: name of the format of the recording
        event_columns: order of the columns of a table of events, such as "t,x,y,p"
    """

    recording: Place
    split: str | None = None
    name: str | None = None
    labels: Path | None = None
    label_format: str | None = None
    timing: LabelTiming | None = None
    sensor: tuple[int, int] | None = None
    event_format: str | None = None
    event_columns: str | None = None

    @classmethod
    def of(cls, recording: "Place | Source") -> "Source":
        """Return `recording` if it is a `Source`, otherwise the source of this recording."""
        return recording if isinstance(recording, Source) else cls(recording)

    @property
    def stem(self) -> str:
        """Beginning of the names of the files that are made from this recording."""
        return self.name or recording_stem(self.recording)

    def settings(self, data: DataConfig) -> DataConfig:
        """Return `data` with the formats that this source sets."""
        own = {name: getattr(self, name) for name in ("label_format", "event_format", "event_columns")}
        return replace(data, **{name: value for name, value in own.items() if value is not None})

    def find_labels(self, label_format: str) -> FoundLabels:
        """Return the labels of the recording, which are given or are beside the recording.

        Args:
            label_format: setting `data.label_format`.

        Raises:
            FileNotFoundError: there are no labels.
            ValueError: the format is not known.
        """
        name = self.label_format or label_format
        if self.labels is not None:
            return FoundLabels(self.labels, detect_format(self.labels) if name == "auto" else name)
        found = find_labels(self.recording, name)
        if found is None:
            names = searched_names(self.recording, name)
            raise FileNotFoundError(
                f"{self.recording}: the recording has no labels beside it, allowed: {names}; or give --labels PATH"
            )
        return found
