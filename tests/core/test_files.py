import pytest

from gzkern.core.files import new_directory, write_atomically
from gzkern.errors import GzkernError, InputError


def test_write_atomically(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"

    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    with pytest.raises(InputError, match="is a directory"):
        write_atomically(tmp_path, b"")
    with pytest.raises(InputError, match=r"b\.bin: cannot be written"):
        write_atomically(tmp_path / "absent" / "b.bin", b"")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_write_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def half(file):
        file.write(b"ne")
        raise error

    with pytest.raises(GzkernError if isinstance(error, OSError) else KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_new_directory(tmp_path):
    path = tmp_path / "deep" / "new"
    with new_directory(path) as partial:
        (partial / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    assert path.stat().st_mode & 0o777 == (tmp_path / "deep").stat().st_mode & 0o777
    with pytest.raises(InputError, match="already exists"), new_directory(path):
        pass
    with new_directory(path, overwrite=True) as partial:
        (partial / "b").write_text("2")
    assert [entry.name for entry in path.iterdir()] == ["b"]
    with pytest.raises(InputError, match="is a file"), new_directory(path / "b", overwrite=True):
        pass
    with pytest.raises(InputError, match="cannot be created"), new_directory(path / "b" / "c"):
        pass
    assert [entry.name for entry in path.parent.iterdir()] == ["new"]
