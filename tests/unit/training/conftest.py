import pytest
import torch
from corpus_for_tests import Corpus, draw_corpus


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return draw_corpus()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
