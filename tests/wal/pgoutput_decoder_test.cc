#include "wal/pgoutput_decoder.h"

#include <algorithm>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/wal/pgoutput_samples.h"

namespace bitacora::wal {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;
using namespace samples;

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

PgOutputDecoder decoder_of(PgOutputOptions options, bool in_stream) {
  PgOutputDecoder decoder(options);
  if (in_stream) {
    EXPECT_TRUE(decoder.decode(stream_start(700)));
  }
  return decoder;
}

// What decoding gives: the description, or the error's message.
std::string outcome(PgOutputDecoder& decoder, std::string_view bytes) {
  const auto decoded = decoder.decode(bytes);
  return decoded ? describe(**decoded) : decoded.error().message;
}

void for_every_sample(const std::function<void(const Setting&, const Sample&)>& visit) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.title);
    for (const Sample& sample : setting.samples) {
      SCOPED_TRACE(sample.title);
      visit(setting, sample);
    }
  }
}

// Decodes a copy of exactly its own size on the heap: a sanitizer sees one byte read too far.
void expect_refused(const Setting& setting, const std::string& bytes, std::string_view name) {
  const auto copy = std::make_unique<char[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  auto decoder = decoder_of(setting.options, setting.in_stream);
  const auto decoded = decoder.decode({copy.get(), bytes.size()});
  ASSERT_FALSE(decoded.ok()) << describe(**decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kMaster);
  EXPECT_FALSE(decoded.error().hint.empty());
  EXPECT_NE(decoded.error().message.find(name), std::string::npos) << decoded.error().message;
}

TEST(PgOutputDecoder, EveryMessageInEveryVersion) {
  for_every_sample([](const Setting& setting, const Sample& sample) {
    auto decoder = decoder_of(setting.options, setting.in_stream);
    EXPECT_EQ(outcome(decoder, sample.bytes), sample.meaning);
  });
}

TEST(PgOutputDecoder, EveryMessageCutAnywhereIsRefused) {
  for_every_sample([](const Setting& setting, const Sample& sample) {
    expect_refused(setting, "", "empty pgoutput message");
    for (std::size_t size = 1; size < sample.bytes.size(); ++size) {
      SCOPED_TRACE(size);
      expect_refused(setting, sample.bytes.substr(0, size), fmt::format("{} message", sample.name));
    }
  });
}

TEST(PgOutputDecoder, EveryMessageWithOneMoreByteIsRefused) {
  for_every_sample([](const Setting& setting, const Sample& sample) {
    for (const char extra : {'\0', 'N', '\xff'}) {
      expect_refused(setting, sample.bytes + extra, fmt::format("{} message: 1 byte", sample.name));
    }
  });
}

TEST(PgOutputDecoder, EveryOtherKindIsUnknown) {
  constexpr std::string_view kKnown = "BCORYIUDTMSEcAbPKrp";
  for (int code = 0; code < 256; ++code) {
    const char kind = static_cast<char>(code);
    if (kKnown.find(kind) != std::string_view::npos) continue;
    SCOPED_TRACE(code);
    PgOutputDecoder decoder(kParallel);
    const auto decoded = decoder.decode(std::string(1, kind) + "some bytes");
    ASSERT_FALSE(decoded.ok());
    EXPECT_EQ(decoded.error().code, ErrorCode::kMaster);
    EXPECT_EQ(decoded.error().message.rfind("unknown pgoutput message ", 0), 0u);
  }
}

TEST(PgOutputDecoder, UnknownKindIsNamedReadably) {
  struct Case {
    const char* name;
    std::string bytes;
    const char* message;
  };
  for (const Case& c : {Case{"printable", "z", "unknown pgoutput message 'z'"},
                        Case{"zero byte", "\0"s, "unknown pgoutput message 0x00"},
                        Case{"high byte", "\xe9", "unknown pgoutput message 0xe9"}}) {
    SCOPED_TRACE(c.name);
    PgOutputDecoder decoder(kProto1);
    EXPECT_EQ(outcome(decoder, c.bytes), c.message);
  }
}

TEST(PgOutputDecoder, TwoPhaseIsRefusedWithAHint) {
  struct Case {
    const char* name;
    std::string bytes;
  };
  const auto prepared = [](char kind) {
    return Bytes(kind).int8(0).int64(1).int64(2).int64(3).int32(740).string("gid");
  };
  for (const Case& c :
       {Case{"Begin Prepare", Bytes('b').int64(1).int64(2).int64(3).int32(740).string("gid")},
        Case{"Prepare", prepared('P')}, Case{"Commit Prepared", prepared('K')},
        Case{"Rollback Prepared",
             Bytes('r').int8(0).int64(1).int64(2).int64(3).int64(4).int32(740).string("gid")},
        Case{"Stream Prepare", prepared('p')}}) {
    SCOPED_TRACE(c.name);
    for (const auto& options : {kProto1, kProto3, kParallel}) {
      PgOutputDecoder decoder(options);
      const auto decoded = decoder.decode(c.bytes);
      ASSERT_FALSE(decoded.ok());
      EXPECT_EQ(decoded.error().code, ErrorCode::kMaster);
      EXPECT_FALSE(decoded.error().heals());
      EXPECT_NE(decoded.error().message.find(c.name), std::string::npos);
      EXPECT_NE(decoded.error().hint.find("two_phase"), std::string::npos);
    }
  }
}

TEST(PgOutputDecoder, MalformedMessages) {
  struct Case {
    const char* name;
    std::string bytes;
    const char* problem;
  };
  const auto relation = [] { return Bytes('R').int32(1).string("s").string("t"); };
  const auto row = [](char kind) { return Bytes(kind).int32(9); };
  for (const Case& c : {
           Case{"negative column count", row('I').byte('N').int16(-1).null(),
                "Insert message: a count of -1 with 1 bytes left"},
           Case{"smallest column count", row('D').byte('K').int16(-32768),
                "Delete message: a count of -32768 with 0 bytes left"},
           Case{"huge column count", row('I').byte('N').int16(32767).null().null(),
                "Insert message: a count of 32767 with 2 bytes left"},
           Case{"one column too few", row('I').byte('N').int16(3).null().null(),
                "Insert message: a count of 3 with 2 bytes left"},
           Case{"huge count in the old tuple",
                row('U').byte('K').int16(32767).null().byte('N').int16(0),
                "Update message: a count of 32767"},
           Case{"negative count of a relation's columns", relation().byte('d').int16(-1),
                "Relation message: a count of -1"},
           Case{"huge count of a relation's columns",
                relation().byte('d').int16(32767).int8(0).string("a").int32(23).int32(0),
                "Relation message: a count of 32767"},
           Case{"negative count of truncated relations",
                Bytes('T').int32(0xffffffff).int8(0).int32(1), "Truncate message: a count of -1"},
           Case{"huge count of truncated relations", Bytes('T').int32(0x7fffffff).int8(0).int32(1),
                "Truncate message: a count of 2147483647 with 4 bytes left"},
           Case{"count whose bytes would overflow 32 bits",
                Bytes('T').int32(0x40000001).int8(0).int32(1), "Truncate message: a count"},
           Case{"negative value length",
                row('I').byte('N').int16(1).byte('t').int32(0xffffffff).raw("abc"),
                "Insert message: the bytes end too early"},
           Case{"huge content length",
                Bytes('M').int8(0).int64(1).string("p").int32(0x7fffffff).raw("abc"),
                "Message message: the bytes end too early"},
           Case{"unknown column kind", row('I').byte('N').int16(1).byte('x'),
                "Insert message: unknown column kind 'x'"},
           Case{"insert with an old tuple", row('I').byte('K').int16(0),
                "Insert message: a new tuple expected, not 'K'"},
           Case{"update without a tuple", row('U').byte('X').int16(0),
                "Update message: a new tuple expected, not 'X'"},
           Case{"update with two old tuples", row('U').byte('K').int16(0).byte('O').int16(0),
                "Update message: a new tuple expected, not 'O'"},
           Case{"delete with a new tuple", row('D').byte('N').int16(0),
                "Delete message: an old tuple expected, not 'N'"},
           Case{"unknown replica identity", relation().byte('z').int16(0),
                "Relation message: unknown replica identity 'z'"},
           Case{"unknown column flags",
                relation().byte('d').int16(1).int8(3).string("a").int32(23).int32(0),
                "Relation message: unknown flags 0x03"},
           Case{"unknown commit flags", Bytes('C').int8(1).int64(1).int64(1).int64(1),
                "Commit message: unknown flags 0x01"},
           Case{"unknown truncate flags", Bytes('T').int32(0).int8(4),
                "Truncate message: unknown flags 0x04"},
           Case{"unknown message flags", Bytes('M').int8(2).int64(1).string("").int32(0),
                "Message message: unknown flags 0x02"},
           Case{"unknown stream start flags", Bytes('S').int32(1).int8(2),
                "Stream Start message: unknown flags 0x02"},
           Case{"unknown stream commit flags",
                Bytes('c').int32(1).int8(1).int64(1).int64(1).int64(1),
                "Stream Commit message: unknown flags 0x01"},
           Case{"time beyond what we can count",
                Bytes('B').int64(1).int64(0x7fffffffffffffff).int32(1),
                "Begin message: a time out of range"},
           Case{"name without end", Bytes('O').int64(1).raw("abc"),
                "Origin message: the bytes end too early"},
       }) {
    SCOPED_TRACE(c.name);
    PgOutputDecoder decoder(kProto2);
    const auto result = outcome(decoder, c.bytes);
    EXPECT_NE(result.find(c.problem), std::string::npos) << result;
  }
}

TEST(PgOutputDecoder, StreamedBlocks) {
  const std::string insert = Bytes('I').int32(9).byte('N').int16(0);
  const std::string streamed_insert = Bytes('I').int32(701).int32(9).byte('N').int16(0);
  const std::string begin = Bytes('B').int64(1).int64(0).int32(1);
  const std::string commit = Bytes('C').int8(0).int64(1).int64(1).int64(0);
  const std::string start = stream_start(700);
  const std::string stop = Bytes('E');
  const std::string stream_commit = Bytes('c').int32(700).int8(0).int64(1).int64(1).int64(0);
  const std::string abort = short_abort().bytes;

  struct Case {
    const char* name;
    PgOutputOptions options;
    std::vector<std::string> before;
    std::string last;
    const char* outcome;
  };
  for (const Case& c : {
           Case{"change inside carries its xid", kProto2, {start}, streamed_insert, "xid 701 INS"},
           Case{"change after the block does not", kProto2, {start, stop}, insert, "xid 0 INS"},
           Case{"second block", kProto2, {start, stop, start}, streamed_insert, "xid 701 INS"},
           Case{"ordinary transaction between blocks",
                kProto2,
                {start, stop, begin, insert},
                commit,
                "commit 0/1"},
           Case{"abort after the block", kProto2, {start, stop}, abort, "stream abort 700"},
           Case{"short abort needs streaming parallel off",
                kParallel,
                {},
                abort,
                "malformed pgoutput Stream Abort message: the bytes end too early"},
           Case{"long abort needs protocol 4",
                PgOutputOptions{3, true},
                {},
                long_abort().bytes,
                "malformed pgoutput Stream Abort message: 16 bytes too many"},
           Case{"long abort needs streaming parallel",
                kProto4,
                {},
                long_abort().bytes,
                "malformed pgoutput Stream Abort message: 16 bytes too many"},
           Case{"refused start opens no block", kProto2, {start + "x"}, insert, "xid 0 INSERT"},
           Case{"refused stop leaves the block open",
                kProto2,
                {start, stop + "x"},
                streamed_insert,
                "xid 701 INSERT"},
           Case{"stop without start", kProto2, {}, stop, "outside a streamed block"},
           Case{"start inside", kProto2, {start}, start, "Start message: it came inside"},
           Case{"begin inside", kProto2, {start}, begin, "Begin message: it came inside"},
           Case{"commit inside", kProto2, {start}, commit, "Commit message: it came inside"},
           Case{"stream commit inside", kProto2, {start}, stream_commit, "it came inside"},
           Case{"abort inside", kProto2, {start}, abort, "Abort message: it came inside"},
           Case{"start in protocol 1", kProto1, {}, start, "version 1 has no such message"},
           Case{"stop in protocol 1", kProto1, {}, stop, "version 1 has no such message"},
           Case{"stream commit in protocol 1", kProto1, {}, stream_commit, "has no such message"},
           Case{"abort in protocol 1", kProto1, {}, abort, "version 1 has no such message"},
       }) {
    SCOPED_TRACE(c.name);
    PgOutputDecoder decoder(c.options);
    for (const auto& bytes : c.before) outcome(decoder, bytes);
    const auto last = outcome(decoder, c.last);
    EXPECT_NE(last.find(c.outcome), std::string::npos) << last;
  }
}

// The hexadecimal bytes are what PostgreSQL 15 sent, not what this test believes it sends.
TEST(PgOutputDecoder, BytesOfARealServer) {
  struct Case {
    const char* name;
    std::string_view hex;
    const char* meaning;
  };
  for (const Case& c : {
           Case{"begin", "420000000001533910000303e3eadc6f83000002dc",
                "begin 0/1533910 at 1795387162906499 xid 732"},
           Case{"commit", "430000000000015339100000000001533940000303e3eadc6f83",
                "commit 0/1533910 to 0/1533940 at 1795387162906499"},
           Case{"enum type", "59000040017075626c6963006d6f6f6400", "xid 0 type 16385 public.mood"},
           Case{"domain under its base type's name", "590000400600696e743400",
                "xid 0 type 16390 pg_catalog.int4"},
           Case{"relation",
                "52000040087075626c69630074006400050169640000000017ffffffff006269670000000019ff"
                "ffffff006d0000004001ffffffff00700000004006ffffffff006400000006a400080006",
                "xid 0 relation 16392 public.t REPLICA_IDENTITY_DEFAULT, id 23 -1 key, big 25 -"
                "1, m 16385 -1, p 16390 -1, d 1700 524294"},
           Case{"table without columns", "52000040147075626c6963007a00640000",
                "xid 0 relation 16404 public.z REPLICA_IDENTITY_DEFAULT"},
           Case{"insert with null", "490000400f4e00027400000001326e",
                "xid 0 INSERT 16399 old[] new[t:2 n]"},
           Case{"update leaving a TOAST value",
                "55000040084e00057400000001317574000000026f6b7400000001357400000004322e3235",
                "xid 0 UPDATE 16392 old[] new[t:1 u t:ok t:5 t:2.25]"},
           Case{"update of the key",
                "55000040084b00057400000001316e6e6e6e4e00057400000001327574000000026f6b74000000"
                "01357400000004322e3235",
                "xid 0 UPDATE_KEY 16392 old[t:1 n n n n] new[t:2 u t:ok t:5 t:2.25]"},
           Case{"update, identity full",
                "550000400f4f00027400000001317400000001784e0002740000000131740000000179",
                "xid 0 UPDATE_FULL 16399 old[t:1 t:x] new[t:1 t:y]"},
           Case{"delete by key", "44000040084b00057400000001326e6e6e6e",
                "xid 0 DELETE_KEY 16392 old[t:2 n n n n] new[]"},
           Case{"delete, identity full", "440000400f4f0002740000000131740000000179",
                "xid 0 DELETE_FULL 16399 old[t:1 t:y] new[]"},
           Case{"truncate", "540000000203000040080000400f",
                "xid 0 truncate 16392 16399 cascade restart"},
           Case{"logical message", "4d0100000000015354a8707265000000000568656c6c6f",
                "xid 0 message 0/15354A8 transactional pre=hello"},
           Case{"origin", "4f000000000000abcd6f72696700", "origin 0/ABCD orig"},
           Case{"stream start", "53000002e601", "stream start 742 first"},
           Case{"stream commit", "63000002e60000000000015d717800000000015d73f0000303e3eadcc265",
                "stream commit 742 0/15D7178 to 0/15D73F0 at 1795387162927717"},
           Case{"stream abort of a subtransaction", "41000002e6000002e7",
                "stream abort 742 sub 743 0/0 at 0"},
       }) {
    SCOPED_TRACE(c.name);
    PgOutputDecoder decoder(kProto2);
    EXPECT_EQ(outcome(decoder, from_hex(c.hex)), c.meaning);
  }
}

TEST(PgOutputDecoder, RowsReuseTheirMemory) {
  const std::string insert = Bytes('I').int32(9).byte('N').int16(3).text("1").null().null();
  const std::string update = Bytes('U').int32(9).byte('N').int16(2).text("2").null();
  const std::string commit = plain_samples()[2].bytes;
  PgOutputDecoder decoder(kProto1);
  const auto new_tuple_at = [&](const std::string& bytes) {
    const auto decoded = decoder.decode(bytes);
    return std::get<RowMessage>(**decoded).row.new_tuple.data();
  };
  const auto* first = new_tuple_at(insert);
  EXPECT_EQ(new_tuple_at(update), first);
  EXPECT_EQ(outcome(decoder, commit).substr(0, 6), "commit");
  EXPECT_EQ(new_tuple_at(insert), first);
  EXPECT_FALSE(decoder.decode(insert.substr(0, 12)));
  EXPECT_EQ(new_tuple_at(insert), first);
}

TEST(PgOutputDecoder, RowsAreViewsIntoTheBuffer) {
  const std::string bytes = Bytes('I').int32(9).byte('N').int16(1).text("value");
  PgOutputDecoder decoder(kProto1);
  const auto decoded = decoder.decode(bytes);
  ASSERT_TRUE(decoded);
  const auto& value = std::get<RowMessage>(**decoded).row.new_tuple.at(0).bytes;
  EXPECT_EQ(value.data(), bytes.data() + bytes.size() - 5);
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string mutate(std::string bytes) {
    for (auto times = 1 + below(4); times > 0; --times) mutate_once(bytes);
    return bytes;
  }
  std::size_t below(std::size_t bound) { return random_() % bound; }

 private:
  void mutate_once(std::string& bytes) {
    const auto at = below(bytes.size() + 1);
    const char value = interesting();
    switch (below(5)) {
      case 0:
        bytes.insert(at, 1, value);
        break;
      case 1:
        bytes.erase(at, 1 + below(4));
        break;
      case 2:
        bytes.insert(at, bytes.substr(below(bytes.size() + 1), below(9)));
        break;
      case 3:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      default:
        if (at < bytes.size()) bytes[at] = value;
    }
  }
  char interesting() {
    constexpr std::string_view kChosen =
        "\0\1\x7f\x80\xff"
        "KONntub"sv;
    return below(2) == 0 ? kChosen[below(kChosen.size())] : static_cast<char>(random_());
  }

  std::mt19937_64 random_;
};

// Every view of a decoded message lies in its buffer; all of them are read.
void expect_views_inside(const PgOutputMessage& message, std::string_view buffer) {
  const auto inside = [&](std::string_view view) {
    const std::less_equal<const char*> before;
    return view.empty() || (before(buffer.data(), view.data()) &&
                            before(view.data() + view.size(), buffer.data() + buffer.size()));
  };
  if (const auto* row = std::get_if<RowMessage>(&message)) {
    for (const auto* tuple : {&row->row.old_tuple, &row->row.new_tuple}) {
      for (const auto& value : *tuple) EXPECT_TRUE(inside(value.bytes));
    }
    EXPECT_TRUE(row->row.old_tuple.empty() || proto::has_old_tuple(row->operation));
    EXPECT_TRUE(row->row.new_tuple.empty() || proto::has_new_tuple(row->operation));
  } else if (const auto* logical = std::get_if<LogicalMessage>(&message)) {
    EXPECT_TRUE(inside(logical->prefix) && inside(logical->content));
  } else if (const auto* origin = std::get_if<OriginMessage>(&message)) {
    EXPECT_TRUE(inside(origin->name));
  }
  EXPECT_FALSE(describe(message).empty());
}

TEST(PgOutputDecoder, RandomMutationsNeverCrash) {
  constexpr std::uint64_t kSeed = 20'240'101;
  constexpr int kMutations = 200'000;
  SCOPED_TRACE(fmt::format("seed {}", kSeed));
  std::cout << "seed " << kSeed << '\n';
  const auto all = settings();
  Mutator mutator(kSeed);
  int accepted = 0;
  for (int i = 0; i < kMutations; ++i) {
    const Setting& setting = all[mutator.below(all.size())];
    const auto& sample = setting.samples[mutator.below(setting.samples.size())];
    const auto mutated = mutator.mutate(sample.bytes);
    const auto exact = std::make_unique<char[]>(mutated.size());
    std::copy(mutated.begin(), mutated.end(), exact.get());
    const std::string_view bytes(exact.get(), mutated.size());
    auto decoder = decoder_of(setting.options, setting.in_stream);
    const auto decoded = decoder.decode(bytes);
    if (decoded) {
      ++accepted;
      expect_views_inside(**decoded, bytes);
    } else {
      ASSERT_EQ(decoded.error().code, ErrorCode::kMaster);
    }
    ASSERT_FALSE(HasFailure()) << "mutation " << i << " of " << sample.title;
  }
  // Mutations that all die at the first byte, or all pass, would test nothing.
  EXPECT_GT(accepted, kMutations / 20);
  EXPECT_LT(accepted, kMutations * 19 / 20);
}

}  // namespace
}  // namespace bitacora::wal
