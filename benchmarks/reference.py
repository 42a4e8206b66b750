"""Show, Attend and Tell as it is usually written, for comparison: clear, correct, and in no hurry.

The keys of the grid are projected again at every step; training runs all rows to the full padded length; beam
search takes one image at a time, its grid copied for every hypothesis. It takes our decoder's weights, so
that both compute the same numbers, which the benchmarks check before they time anything.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from captionloop.captioner.decoders import ShowAttendTell
from captionloop.tokenizer import CaptionTokenizer

BOS, EOS = CaptionTokenizer.BOS, CaptionTokenizer.EOS
FORBIDDEN_TOKENS = [CaptionTokenizer.PAD, BOS, CaptionTokenizer.UNK]


class ReferenceDecoder(nn.Module):
    """Equations 1 to 9 of Xu et al. 2015, one line each, with additive attention and the gate beta."""

    def __init__(self, ours: ShowAttendTell) -> None:
        super().__init__()
        config, channels = ours.config, ours.channels
        attention, hidden = config.attention_size, config.hidden
        self.dropout = nn.Dropout(config.dropout)
        self.embedding = nn.Embedding(ours.vocabulary_size, config.embedding)
        self.key = nn.Linear(channels, attention, bias=False)
        self.query = nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, 1, bias=False)
        self.gate = nn.Linear(hidden, 1)
        self.initial_hidden, self.initial_cell = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.lstm = nn.LSTMCell(config.embedding + channels, hidden)
        self.output_hidden = nn.Linear(hidden, config.embedding)
        self.output_context = nn.Linear(channels, config.embedding, bias=False)
        self.output = nn.Linear(config.embedding, ours.vocabulary_size)
        self._take(ours)

    @torch.no_grad()
    def _take(self, ours: ShowAttendTell) -> None:
        sizes = [ours.config.attention_size, 1, 4 * ours.config.hidden]
        query, gate, recurrent = ours.from_hidden.weight.split(sizes)
        query_bias, gate_bias, recurrent_bias = ours.from_hidden.bias.split(sizes)
        hidden, cell = ours.initial.weight.chunk(2)
        hidden_bias, cell_bias = ours.initial.bias.chunk(2)
        scores = ours.words.vectors if ours.words.scores is None else ours.words.scores
        into = torch.cat([ours.from_word.weight, ours.from_context.weight], 1)
        for mine, theirs in (
            (self.embedding.weight, ours.words.vectors),
            (self.key.weight, ours.attention.keys.weight),
            (self.query.weight, query),
            (self.query.bias, query_bias),
            (self.score.weight, ours.attention.weight[None]),
            (self.gate.weight, gate),
            (self.gate.bias, gate_bias),
            (self.initial_hidden.weight, hidden),
            (self.initial_hidden.bias, hidden_bias),
            (self.initial_cell.weight, cell),
            (self.initial_cell.bias, cell_bias),
            (self.lstm.weight_ih, into),
            (self.lstm.bias_ih, ours.from_word.bias),
            (self.lstm.weight_hh, recurrent),
            (self.lstm.bias_hh, recurrent_bias),
            (self.output_hidden.weight, ours.output_hidden.weight),
            (self.output_hidden.bias, ours.output_hidden.bias),
            (self.output_context.weight, ours.output_context.weight),
            (self.output.weight, scores),
            (self.output.bias, ours.words.bias),
        ):
            mine.copy_(theirs)

    def begin(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        mean = grid.mean(1)
        return self.initial_hidden(mean).tanh(), self.initial_cell(mean).tanh()

    def step(self, words: Tensor, grid: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
        """One step of N rows, each with its own grid: words int64 `[N]`, grid `[N, R, C]`."""
        embedded = self.dropout(self.embedding(words))
        scores = self.score(torch.tanh(self.key(grid) + self.query(hidden)[:, None]))[..., 0]
        attention = scores.softmax(-1)
        context = self.gate(hidden).sigmoid() * (attention[..., None] * grid).sum(1)
        hidden, cell = self.lstm(torch.cat([embedded, context], 1), (hidden, cell))
        deep = embedded + self.output_hidden(self.dropout(hidden)) + self.output_context(context)
        return self.output(self.dropout(deep)), attention, hidden, cell

    def loss(self, grid: Tensor, captions: Tensor, lengths: Tensor) -> Tensor:
        """Cross-entropy, doubly stochastic attention; `captions` int64 `[N, T]`, begin and end included."""
        hidden, cell = self.begin(grid)
        logits, attended = [], []
        for time in range(captions.shape[1] - 1):
            scores, attention, hidden, cell = self.step(captions[:, time], grid, hidden, cell)
            logits.append(scores)
            attended.append(attention)
        running = torch.arange(captions.shape[1] - 1, device=grid.device)[None] < lengths[:, None]
        scores = torch.stack(logits, 1)[running]
        spent = (torch.stack(attended, 1) * running[..., None]).sum(1)
        loss = functional.cross_entropy(scores, captions[:, 1:][running])
        return loss + ((1 - spent) ** 2).mean()


@torch.no_grad()
def reference_beam_search(model: ReferenceDecoder, grid: Tensor, width: int, steps: int) -> list[int]:
    """The likeliest caption of one image, `[1, R, C]`, of at most `steps` words, by summed log-prob."""
    hidden, cell = model.begin(grid)
    grid = grid.expand(width, -1, -1)
    hidden, cell = hidden.expand(width, -1), cell.expand(width, -1)
    words = torch.full((width,), BOS, device=grid.device)
    captions, totals = words[:, None], torch.zeros(width, device=grid.device)
    finished: list[tuple[float, list[int]]] = []
    for step in range(steps + 1):
        scores, _, hidden, cell = model.step(words, grid[: len(words)], hidden, cell)
        log_probs = scores.log_softmax(-1)
        log_probs[:, FORBIDDEN_TOKENS] = -torch.inf
        if step == 0:
            log_probs[:, EOS] = -torch.inf
        if step == steps:
            for total, end, caption in zip(totals, log_probs[:, EOS], captions, strict=True):
                finished.append((float(total + end), caption[1:].tolist()))
            break
        sums = totals[:, None] + log_probs
        totals, place = (sums[:1] if step == 0 else sums).flatten().topk(len(words))
        rows, words = place // log_probs.shape[1], place % log_probs.shape[1]
        captions = torch.cat([captions[rows], words[:, None]], 1)
        hidden, cell = hidden[rows], cell[rows]
        going_on = words != EOS
        for total, caption in zip(totals[~going_on], captions[~going_on], strict=True):
            finished.append((float(total), caption[1:-1].tolist()))
        totals, captions, words = totals[going_on], captions[going_on], words[going_on]
        hidden, cell = hidden[going_on], cell[going_on]
        if not len(words):
            break
    return max(finished)[1]


@torch.no_grad()
def long_winded(decoder: ShowAttendTell) -> ShowAttendTell:
    """With random weights a caption ends anywhere: make the end unlikely, so that all take the same steps."""
    decoder.words.bias[EOS] = -30
    return decoder
