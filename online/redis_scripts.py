"""What runs inside Redis: each script is one moment for everybody else.

All keys begin with `PREFIX`. Scripts make keys out of what they read there, so the keys must be on one server (no cluster).

==================================  ===========================================================================
key                                 holds
==================================  ===========================================================================
``format``                          number of this layout
``pointer``                         hash: ``generation:<source>``, ``epoch:``, ``cut:``, ``end:``
``flips:<source>``                  list of JSON: generation, cut, batch_end, instant
``content``                         hash: name of the records' key -> JSON of layout and fingerprints
``closed:<generation>:<view>``      hash: entity -> record, checksum
``open:<epoch>:<view>``             hash: entity -> record, checksum, version
``rejected:<epoch>``, and alike      hash: view -> count; for each of `Written`
``generation``                      the newest number that an upload was given
``jobs``                            hash: epoch -> JSON
``offsets:<topic>``                 hash: partition -> next offset to read
``dropped``                         set: epochs of which nothing is written any more
``write:<version>``                 what a write of open records has answered, for a while
==================================  ===========================================================================
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

PREFIX = "unskew:"
FORMAT = b"1"
VERSION = 8  # bytes behind an open record: random, of the write that wrote it


@dataclass(frozen=True)
class Script:
    """A Lua script and the name by which Redis keeps it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Name it."""
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


# ARGV: key of the records, of the three counters, of this write, seconds that it is kept, view; then for each record:
# entity, version that was read (empty: none), new record with its version, what it adds to each counter.
# Answers the places of the records that another writer has changed, with commas; the same if it is sent again.
SWAP = Script("""
local records, write, view = ARGV[1], ARGV[5], ARGV[7]
local done = redis.call('GET', write)
if done then return done end
if redis.call('SISMEMBER', 'unskew:dropped', string.sub(ARGV[2], 17)) == 1 then return '' end  -- behind unskew:rejected:
local lost, counted = {}, {0, 0, 0}
for at = 8, #ARGV, 6 do
  local held = redis.call('HGET', records, ARGV[at])
  if (held and string.sub(held, -8) or '') == ARGV[at + 1] then
    redis.call('HSET', records, ARGV[at], ARGV[at + 2])
    for n = 1, 3 do counted[n] = counted[n] + tonumber(ARGV[at + 2 + n]) end
  else
    lost[#lost + 1] = string.format('%d', (at - 8) / 6)
  end
end
for n = 1, 3 do redis.call('HINCRBY', ARGV[1 + n], view, string.format('%.0f', counted[n])) end
local answer = table.concat(lost, ',')
redis.call('SET', write, answer, 'EX', ARGV[6])
return answer
""")

# ARGV: prefix, generation; then for each source: name, cut, batch_end, the flip as JSON.
# Answers the place of a source whose batch_end is later already, and that; else -1. Sent again it changes nothing.
FLIP = Script("""
local pointer, generation = ARGV[1] .. 'pointer', ARGV[2]
for at = 3, #ARGV, 4 do
  local held = redis.call('HGET', pointer, 'end:' .. ARGV[at])
  if held and tonumber(ARGV[at + 2]) < tonumber(held) then return {(at - 3) / 4, held} end
end
for at = 3, #ARGV, 4 do
  local source = ARGV[at]
  if redis.call('HGET', pointer, 'generation:' .. source) ~= generation then
    redis.call('HSET', pointer, 'generation:' .. source, generation, 'cut:' .. source, ARGV[at + 1], 'end:' .. source, ARGV[at + 2])
    redis.call('RPUSH', ARGV[1] .. 'flips:' .. source, ARGV[at + 3])
  end
end
return {-1, ''}
""")


def unread(role: str, side: str) -> str:
    """Return the part of a script that answers 0 if reads see the owner in ARGV[2], and else deletes its records."""
    return f"""
local pointers = redis.call('HGETALL', ARGV[1] .. 'pointer')
for at = 1, #pointers, 2 do
  if string.sub(pointers[at], 1, {len(role) + 1}) == '{role}:' and pointers[at + 1] == ARGV[2] then return 0 end
end
local begin = '{side}:' .. ARGV[2] .. ':'
for _, name in ipairs(redis.call('HKEYS', ARGV[1] .. 'content')) do
  if string.sub(name, 1, #begin) == begin then
    redis.call('UNLINK', ARGV[1] .. name)
    redis.call('HDEL', ARGV[1] .. 'content', name)
  end
end
"""


# ARGV: prefix, generation. Answers 1, or 0 if reads see it.
DROP = Script(unread("generation", "closed") + "return 1")

# ARGV: prefix, epoch, further keys. Answers 1, or 0 if reads see it.
DROP_EPOCH = Script(
    unread("epoch", "open")
    + """
for at = 3, #ARGV do redis.call('UNLINK', ARGV[at]) end
redis.call('HDEL', ARGV[1] .. 'jobs', ARGV[2])
redis.call('SADD', ARGV[1] .. 'dropped', ARGV[2])
return 1
"""
)

# ARGV: key of the offsets; then for each partition: its number, where the step begins, where it ends.
# Answers 1, or 0 if one stands elsewhere: then nothing is changed. Sent again it answers the same.
ADVANCE = Script("""
for at = 2, #ARGV, 3 do
  local held = redis.call('HGET', ARGV[1], ARGV[at]) or '0'
  if held ~= ARGV[at + 1] and held ~= ARGV[at + 2] then return 0 end
end
for at = 2, #ARGV, 3 do redis.call('HSET', ARGV[1], ARGV[at], ARGV[at + 2]) end
return 1
""")
