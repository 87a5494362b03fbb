// Frames and the spool.
#include <filesystem>
#include <memory>
#include <utility>

#include "base/check.h"
#include "bench/pair.h"
#include "bench/played_changes.h"
#include "bench/subject.h"
#include "transport/frame_codec.h"
#include "transport/posix_storage.h"
#include "transport/spool.h"

namespace bitacora::bench {
namespace {

constexpr int kLevel = 1;  // of zstd: the sender's default
constexpr int kAppendsMax = 1000;
constexpr std::int64_t kNowUsec = 1'700'000'000'000'000;

// Each batch in a context of its own: the one before would be all it needs.
class Frames {
 public:
  explicit Frames(proto::EncodedBatch batch) : batch_(std::move(batch)) {}

  template <class Send>
  void encode(Send send) {
    end_lsn_.value += batch_.bytes.size();
    CHECK(encoder_
              .encode(batch_.bytes, end_lsn_,
                      [&](pb::Frame& frame) {
                        send(frame);
                        return Result<void>{};
                      })
              .ok());
  }

 private:
  proto::EncodedBatch batch_;
  transport::FrameEncoder encoder_{kLevel, {.context_bytes = 0}};
  MasterLsn end_lsn_;
};

// A context begins a segment of the spool: only the first one does.
pb::Frame without_reset(pb::Frame frame) {
  frame.set_context_reset(frame.sequence() == 1);
  frame.set_crc32c(transport::frame_crc32c(frame));
  return frame;
}

Subject compress(const PlayedChanges& changes) {
  return {"compress/" + changes.name, changes.rows, encoded(changes).bytes.size(), 0, [changes] {
            auto frames = std::make_shared<Frames>(encoded(changes));
            return [frames] { frames->encode([](const pb::Frame&) {}); };
          }};
}

Subject decompress(const PlayedChanges& changes) {
  return {"decompress/" + changes.name, changes.rows, encoded(changes).bytes.size(), 0, [changes] {
            std::vector<pb::Frame> frames;
            Frames(encoded(changes)).encode([&](pb::Frame& frame) { frames.push_back(frame); });
            return [frames] {
              transport::FrameDecoder decoder;
              for (const auto& frame : frames) CHECK(decoder.decode(frame).ok());
              CHECK(proto::parse_batch(decoder.batch()) != nullptr);
            };
          }};
}

// A directory that goes with it.
struct SpoolOfOurs {
  explicit SpoolOfOurs(const std::string& path) : directory(path) {}

  WorkingDirectory directory;
  std::unique_ptr<transport::Spool> spool;
};

std::shared_ptr<SpoolOfOurs> make_spool() {
  auto path = (std::filesystem::temp_directory_path() / "bitacora-micro-XXXXXX").string();
  CHECK(mkdtemp(path.data()) != nullptr);
  auto made = std::make_shared<SpoolOfOurs>(path);
  auto storage = transport::open_posix_storage(made->directory.path() / "spool");
  CHECK(storage.ok());
  auto spool = transport::Spool::open(std::move(*storage), {.sync = false}, std::nullopt);
  CHECK(spool.ok());
  made->spool = std::move(*spool);
  CHECK(made->spool->begin_connection({}, MasterLsn{1}).ok());
  return made;
}

// Without fdatasync, which is the disk's time.
Subject spool_append(const PlayedChanges& changes) {
  return {"spool_append/" + changes.name, changes.rows, encoded(changes).bytes.size(), kAppendsMax,
          [changes] {
            auto frames = std::make_shared<std::vector<std::vector<pb::Frame>>>();
            Frames stream(encoded(changes));
            for (int i = 0; i <= kAppendsMax; ++i) {
              auto& batch = frames->emplace_back();
              stream.encode([&](pb::Frame& frame) { batch.push_back(without_reset(frame)); });
            }
            return [frames, made = make_spool(), next = std::size_t{0}]() mutable {
              for (const auto& frame : (*frames)[next])
                CHECK(made->spool->append(frame, false, kNowUsec).ok());
              ++next;
            };
          }};
}

}  // namespace

std::vector<Subject> transport_subjects() {
  std::vector<Subject> subjects;
  for (const auto& changes : played_changes()) {
    subjects.push_back(compress(changes));
    subjects.push_back(decompress(changes));
    subjects.push_back(spool_append(changes));
  }
  return subjects;
}

}  // namespace bitacora::bench
