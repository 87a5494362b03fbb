#include "transport/frame_codec.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace bitacora::transport {
namespace {

constexpr int kLevel = 1;
constexpr std::uint64_t kSeed = 20240611;

std::string random_bytes(std::mt19937_64& random, std::size_t size, unsigned alphabet = 256) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random() % alphabet);
  return bytes;
}

std::vector<pb::Frame> encode(FrameEncoder& encoder, std::string_view batch,
                              MasterLsn end_lsn = {}) {
  std::vector<pb::Frame> frames;
  const auto encoded = encoder.encode(batch, end_lsn, [&](pb::Frame& frame) -> Result<void> {
    frames.push_back(std::move(frame));
    return {};
  });
  EXPECT_TRUE(encoded.ok()) << one_line(encoded.error());
  return frames;
}

pb::Frame encode_one(FrameEncoder& encoder, std::string_view batch, MasterLsn end_lsn = {}) {
  auto frames = encode(encoder, batch, end_lsn);
  EXPECT_EQ(frames.size(), 1u);
  return std::move(frames.at(0));
}

// For what only a sender gone wrong would send: everything but the sum is as the test wants it.
pb::Frame resealed(pb::Frame frame) {
  frame.set_crc32c(frame_crc32c(frame));
  return frame;
}

void expect_refused(FrameDecoder& decoder, const pb::Frame& frame, std::string_view why) {
  const auto decoded = decoder.decode(frame);
  ASSERT_FALSE(decoded.ok());
  EXPECT_EQ(decoded.error().code, ErrorCode::kNetwork);
  EXPECT_EQ(decoded.error().recovery, Recovery::kRetry);
  EXPECT_NE(decoded.error().message.find(why), std::string::npos) << decoded.error().message;
}

void expect_decodes(FrameDecoder& decoder, const std::vector<pb::Frame>& frames,
                    const std::string& batch) {
  for (const auto& frame : frames) {
    const auto complete = decoder.decode(frame);
    ASSERT_TRUE(complete.ok()) << one_line(complete.error());
    EXPECT_EQ(*complete, &frame == &frames.back());
    EXPECT_EQ(decoder.sequence(), frame.sequence());
  }
  EXPECT_EQ(decoder.batch(), batch);
}

// Bit by bit, as the polynomial defines it.
std::uint32_t reference_crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

TEST(FrameChecksum, IsTheStandardCrc32cOverFieldsAndPayload) {
  ASSERT_EQ(reference_crc32c("123456789"), 0xE3069283u);
  pb::Frame zeros;
  zeros.set_payload(std::string(11, '\0'));
  EXPECT_EQ(frame_crc32c(zeros), 0x8A9136AAu) << "32 zero bytes, the vector of RFC 3720";
  pb::Frame frame;
  frame.set_sequence(0x0102030405060708);
  frame.set_end_lsn(0x1112131415161718);
  frame.set_raw_bytes(0x21222324);
  frame.set_context_reset(true);
  frame.set_more(true);
  frame.set_payload("123456789");
  EXPECT_EQ(frame_crc32c(frame),
            reference_crc32c("\x01\x02\x03\x04\x05\x06\x07\x08\x11\x12\x13\x14\x15\x16\x17\x18"
                             "\x21\x22\x23\x24\x03"
                             "123456789"));
}

TEST(FrameCodec, RandomBatchesComeBack) {
  const FrameLimits limits{.raw_bytes_max = 4096, .batch_bytes_max = 1 << 20, .window_log_max = 14};
  std::mt19937_64 random(kSeed);
  FrameEncoder encoder(kLevel, limits);
  FrameDecoder decoder(limits);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const std::size_t size = random() % (round % 10 == 0 ? 100000 : 5000);
    const auto batch = random_bytes(random, round % 7 == 0 ? 0 : size, round % 2 == 0 ? 256 : 3);
    expect_decodes(decoder, encode(encoder, batch), batch);
  }
}

TEST(FrameCodec, EveryLevelAndSizeAroundTheLimits) {
  const FrameLimits defaults;
  std::mt19937_64 random(kSeed);
  for (const int level : {-5, 1, 3, 9}) {
    FrameEncoder encoder(level);
    FrameDecoder decoder;
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, defaults.raw_bytes_max - 1, defaults.raw_bytes_max,
          defaults.raw_bytes_max + 1, 3 * defaults.raw_bytes_max, std::size_t{5000000}}) {
      SCOPED_TRACE(testing::Message() << "level " << level << ", " << size << " bytes");
      const auto batch = random_bytes(random, size);
      expect_decodes(decoder, encode(encoder, batch), batch);
    }
  }
}

TEST(FrameEncoder, SplitsALargeBatchAndOnlyTheLastFrameCompletesIt) {
  FrameEncoder encoder(kLevel, {.raw_bytes_max = 100});
  const auto frames = encode(encoder, std::string(250, 'x'), MasterLsn{0x500});
  ASSERT_EQ(frames.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(frames[i].sequence(), i + 1);
    EXPECT_EQ(frames[i].raw_bytes(), i == 2 ? 50u : 100u);
    EXPECT_EQ(frames[i].end_lsn(), i == 2 ? 0x500u : 0u);
    EXPECT_EQ(frames[i].more(), i != 2);
    EXPECT_EQ(frames[i].context_reset(), i == 0);
  }
  EXPECT_FALSE(encode_one(encoder, "next").context_reset());
}

TEST(FrameEncoder, SmallFramesCompressAgainstEarlierOnes) {
  std::mt19937_64 random(kSeed);
  const auto batch = random_bytes(random, 400);
  FrameEncoder encoder(kLevel);
  const auto first = encode_one(encoder, batch);
  const auto second = encode_one(encoder, batch);
  EXPECT_GE(first.payload().size(), batch.size());
  EXPECT_LT(second.payload().size(), first.payload().size() / 10);
}

TEST(FrameEncoder, StopsAtTheFirstErrorOfSend) {
  FrameEncoder encoder(kLevel, {.raw_bytes_max = 10});
  int sent = 0;
  const auto encoded = encoder.encode(std::string(100, 'x'), {}, [&](pb::Frame&) -> Result<void> {
    if (++sent == 3) return Error{ErrorCode::kNetwork, "gone"};
    return {};
  });
  ASSERT_FALSE(encoded.ok());
  EXPECT_EQ(encoded.error().message, "gone");
  EXPECT_EQ(sent, 3);
}

TEST(FrameEncoder, RefusesABatchNoReceiverWouldTake) {
  FrameEncoder encoder(kLevel, {.raw_bytes_max = 10, .batch_bytes_max = 20});
  const auto encoded = encoder.encode(std::string(21, 'x'), {}, [](pb::Frame&) -> Result<void> {
    ADD_FAILURE() << "nothing may be sent";
    return {};
  });
  ASSERT_FALSE(encoded.ok());
  EXPECT_EQ(encoded.error().code, ErrorCode::kInternal);
}

TEST(FrameDecoder, OnlyTheNextFrameIsTaken) {
  FrameEncoder encoder(kLevel);
  std::vector<pb::Frame> frames;
  for (const char* batch : {"one", "two", "three", "four"}) {
    frames.push_back(encode_one(encoder, batch));
  }
  struct Case {
    const char* name;
    std::vector<std::size_t> order;  // the last one is refused
    const char* why;
  };
  for (const Case& c : {
           Case{"a gap", {0, 1, 3}, "3 was expected"},
           Case{"a duplicate", {0, 1, 1}, "3 was expected"},
           Case{"one from before", {0, 1, 0}, "3 was expected"},
           Case{"the middle of a stream", {1}, "1 was expected"},
       }) {
    SCOPED_TRACE(c.name);
    FrameDecoder decoder;
    for (std::size_t i = 0; i + 1 < c.order.size(); ++i) {
      ASSERT_TRUE(decoder.decode(frames[c.order[i]]).ok());
    }
    expect_refused(decoder, frames[c.order.back()], c.why);
    expect_refused(decoder, frames[c.order.size() - 1], "an earlier frame");
  }
}

TEST(FrameDecoder, AFreshOneCannotBeginInTheMiddleOfAContext) {
  FrameEncoder encoder(kLevel);
  encode_one(encoder, "what the context has seen");
  auto frame = encode_one(encoder, "what the context has seen");
  frame.set_sequence(1);
  FrameDecoder without_reset;
  expect_refused(without_reset, resealed(frame), "no context");
  frame.set_context_reset(true);
  FrameDecoder with_reset;
  expect_refused(with_reset, resealed(frame), "not a zstd stream");
}

TEST(FrameDecoder, AContextMayBeResetBetweenBatches) {
  FrameDecoder decoder;
  for (std::uint64_t sequence = 1; sequence < 4; ++sequence) {
    FrameEncoder encoder(kLevel);
    auto frame = encode_one(encoder, "again from the start");
    frame.set_sequence(sequence);
    expect_decodes(decoder, {resealed(frame)}, "again from the start");
  }
}

TEST(FrameEncoder, ResetsItsContextOutsideTransactionsOrWhenItMust) {
  struct Case {
    const char* name;
    MasterLsn end_lsn;    // of every batch; 0: they end inside a transaction
    std::size_t batches;  // of about 1100 bytes between two resets
  };
  for (const Case& c : {Case{"outside", MasterLsn{0x500}, 10}, Case{"inside", {}, 19}}) {
    SCOPED_TRACE(c.name);
    std::mt19937_64 random(kSeed);
    const FrameLimits limits{.raw_bytes_max = 400, .context_bytes = 10000};
    FrameEncoder encoder(kLevel, limits);
    FrameDecoder decoder(limits);
    std::vector<std::size_t> resets;
    for (std::size_t i = 0; i < 60; ++i) {
      const auto batch = random_bytes(random, 1100);
      const auto frames = encode(encoder, batch, c.end_lsn);
      if (frames.front().context_reset()) {
        resets.push_back(i);
        decoder = FrameDecoder(limits, frames.front().sequence());  // can be read from here alone
      }
      for (std::size_t j = 1; j < frames.size(); ++j) EXPECT_FALSE(frames[j].context_reset());
      expect_decodes(decoder, frames, batch);
    }
    ASSERT_GT(resets.size(), 2u);
    for (std::size_t i = 0; i < resets.size(); ++i) EXPECT_EQ(resets[i], i * c.batches);
  }
}

TEST(FrameEncoder, AnotherLevelBeginsWithAContextThatComesEarlier) {
  std::mt19937_64 random(kSeed);
  FrameEncoder encoder(1, {.level_bytes = 3000});
  std::vector<bool> resets;
  for (int i = 0; i < 8; ++i) {
    if (i == 1) encoder.set_level(9);
    const auto frames = encode(encoder, random_bytes(random, 1000), MasterLsn{0x500});
    resets.push_back(frames.front().context_reset());
  }
  EXPECT_EQ(resets, (std::vector<bool>{true, false, false, true, false, false, false, false}));
  std::vector<std::string> phrases;
  for (int i = 0; i < 500; ++i) phrases.push_back(random_bytes(random, 5 + random() % 40));
  std::string text;
  while (text.size() < 200'000) text += phrases[random() % phrases.size()].substr(random() % 5);
  FrameEncoder at_one(1);
  EXPECT_LT(encode_one(encoder, text, {}).payload().size(),
            encode_one(at_one, text, {}).payload().size());
}

TEST(FrameDecoder, ASegmentsFirstFrameMustBeTheNamedOneAndReset) {
  FrameEncoder encoder(kLevel, {.context_bytes = 1});
  const auto first = encode_one(encoder, "one", MasterLsn{0x500});
  const auto second = encode_one(encoder, "two", MasterLsn{0x600});
  FrameDecoder at_second({}, 2);
  expect_decodes(at_second, {second}, "two");
  FrameDecoder at_third({}, 3);
  expect_refused(at_third, second, "3 was expected");
  auto continued = second;
  continued.set_context_reset(false);
  FrameDecoder without_reset({}, 2);
  expect_refused(without_reset, resealed(continued), "no context");
}

// A frame, and one on top of it, that decode: what the table below bends.
struct Sample {
  pb::Frame first;
  pb::Frame second;
};

Sample sample() {
  FrameEncoder encoder(kLevel);
  const std::string batch = "juan perez juan perez 987654321 987654321 987654321";
  return {encode_one(encoder, batch, MasterLsn{0x1000}), encode_one(encoder, batch + "!", {})};
}

TEST(FrameDecoder, EveryBitCounts) {
  const auto [first, second] = sample();
  const auto bytes = second.SerializeAsString();
  int read = 0;
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    SCOPED_TRACE(bit);
    auto flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    pb::Frame frame;
    if (!frame.ParseFromString(flipped)) continue;  // Protocol Buffers refuses it before us
    ++read;
    FrameDecoder decoder;
    ASSERT_TRUE(decoder.decode(first).ok());
    expect_refused(decoder, frame, "refused");
  }
  EXPECT_GT(read, 100);
}

TEST(FrameDecoder, FlippedPayloadUnderAValidChecksumNeverCrashes) {
  const auto first = sample().first;
  for (std::size_t bit = 0; bit < 8 * first.payload().size(); ++bit) {
    auto frame = first;
    auto& byte = (*frame.mutable_payload())[bit / 8];
    byte = static_cast<char>(byte ^ (1 << bit % 8));
    FrameDecoder decoder;
    const auto decoded = decoder.decode(resealed(frame));
    EXPECT_TRUE(!decoded.ok() || decoder.batch().size() == first.raw_bytes());
  }
}

TEST(FrameDecoder, WhatALyingSenderSaysIsRefused) {
  struct Case {
    const char* name;
    void (*bend)(pb::Frame&);
    const char* why;
  };
  for (const Case& c : {
           Case{"fewer raw bytes than come out", [](auto& f) { f.set_raw_bytes(10); },
                "10 raw bytes"},
           Case{"none announced", [](auto& f) { f.set_raw_bytes(0); }, "0 raw bytes"},
           Case{"one too few", [](auto& f) { f.set_raw_bytes(f.raw_bytes() - 1); }, "raw bytes"},
           Case{"one too many", [](auto& f) { f.set_raw_bytes(f.raw_bytes() + 1); }, "raw bytes"},
           Case{"payload cut", [](auto& f) { f.mutable_payload()->pop_back(); }, "raw bytes"},
           Case{"no payload", [](auto& f) { f.clear_payload(); }, "raw bytes"},
           Case{"no zstd", [](auto& f) { f.set_payload("hello"); }, "not a zstd stream"},
           Case{"an old zstd format", [](auto& f) { f.mutable_payload()->at(0) = '\x27'; },
                "not a zstd stream"},
           Case{"position inside a batch", [](auto& f) { f.set_more(true); }, "inside a batch"},
           Case{"no reset", [](auto& f) { f.set_context_reset(false); }, "no context"},
       }) {
    SCOPED_TRACE(c.name);
    auto frame = sample().first;
    c.bend(frame);
    FrameDecoder decoder;
    expect_refused(decoder, resealed(frame), c.why);
  }
}

TEST(FrameDecoder, ABombIsRefusedAndTakesNoMemory) {
  FrameEncoder encoder(kLevel, {.raw_bytes_max = 64u << 20});
  auto bomb = encode_one(encoder, std::string(64u << 20, '\0'));
  ASSERT_LT(bomb.payload().size(), 10000u);
  FrameDecoder honest;
  expect_refused(honest, bomb, "the limit is");
  EXPECT_LT(honest.batch().capacity(), 1000u);
  bomb.set_raw_bytes(100);
  FrameDecoder lied_to;
  expect_refused(lied_to, resealed(bomb), "100 raw bytes announced");
  EXPECT_LT(lied_to.batch().capacity(), 1000u);
}

TEST(FrameDecoder, LimitsAreCheckedBeforeMemoryIsTaken) {
  pb::Frame frame = sample().first;
  frame.set_raw_bytes(0xFFFFFFFF);
  FrameDecoder raw;
  expect_refused(raw, resealed(frame), "4294967295 raw bytes, the limit is 262144");
  EXPECT_LT(raw.batch().capacity(), 1000u);

  frame = sample().first;
  frame.set_payload(std::string(300000, 'x'));
  FrameDecoder payload;
  expect_refused(payload, resealed(frame), "a payload of 300000 bytes");
}

TEST(FrameDecoder, ABatchOverItsLimitIsRefused) {
  const FrameLimits limits{.raw_bytes_max = 100, .batch_bytes_max = 250};
  FrameEncoder encoder(kLevel, {.raw_bytes_max = 100});
  FrameDecoder decoder(limits);
  expect_decodes(decoder, encode(encoder, std::string(250, 'x')), std::string(250, 'x'));
  const auto frames = encode(encoder, std::string(251, 'x'));
  ASSERT_TRUE(decoder.decode(frames.at(0)).ok());
  ASSERT_TRUE(decoder.decode(frames.at(1)).ok());
  expect_refused(decoder, frames.at(2), "its batch is over 250 bytes");
}

TEST(FrameDecoder, ALargerWindowThanAgreedIsRefused) {
  FrameEncoder encoder(kLevel, {.window_log_max = 24});
  FrameDecoder decoder({.window_log_max = 21});
  expect_refused(decoder, encode_one(encoder, "small"), "too much memory");
}

TEST(FrameDecoder, AResetInsideABatchIsRefused) {
  FrameEncoder encoder(kLevel, {.raw_bytes_max = 10});
  auto frames = encode(encoder, std::string(20, 'x'));
  FrameDecoder decoder;
  ASSERT_TRUE(decoder.decode(frames.at(0)).ok());
  frames.at(1).set_context_reset(true);
  expect_refused(decoder, resealed(frames.at(1)), "a reset inside a batch");
}

TEST(FrameDecoder, AStreamThatEndsIsRefused) {
  std::string payload(ZSTD_compressBound(5), '\0');
  payload.resize(ZSTD_compress(payload.data(), payload.size(), "hello", 5, kLevel));
  pb::Frame frame;
  frame.set_sequence(1);
  frame.set_context_reset(true);
  frame.set_raw_bytes(5);
  frame.set_payload(payload);
  FrameDecoder decoder;
  expect_refused(decoder, resealed(frame), "stream ends");
}

TEST(FrameDecoder, AHugeBatchsMemoryIsGivenBack) {
  const FrameLimits limits{.raw_bytes_max = 1000};
  FrameEncoder encoder(kLevel, limits);
  FrameDecoder decoder(limits);
  expect_decodes(decoder, encode(encoder, std::string(100000, 'x')), std::string(100000, 'x'));
  expect_decodes(decoder, encode(encoder, "small"), "small");
  EXPECT_LT(decoder.batch().capacity(), 17 * limits.raw_bytes_max);
}

}  // namespace
}  // namespace bitacora::transport
