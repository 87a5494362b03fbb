// One file of the spool: a header, then records. transport/FORMAT.md describes the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "transport/storage.h"

namespace bitacora::transport {

inline constexpr std::string_view kSegmentMagic = "bitspl02";  // the last two: the format's version

// What is larger is damage: refused before memory is taken.
inline constexpr std::uint64_t kSegmentHeaderBytesMax = 256u << 20;  // of the SpoolHeader message
inline constexpr std::uint64_t kSegmentRecordBytesMax = 1u << 20;    // of one Frame message

// A position behind a record, or behind the header: what a checkpoint remembers as synced.
struct SyncedMark {
  std::uint64_t segment = 0;  // its number
  std::uint64_t bytes = 0;    // of the segment's file
  MasterLsn lsn;              // everything up to here is complete there

  friend bool operator==(const SyncedMark&, const SyncedMark&) = default;
};

// 0000000000000001.spool; nullopt: a file that is none of ours.
std::string segment_name(std::uint64_t number);
std::optional<std::uint64_t> segment_number(std::string_view name);

// The bytes with which a file begins, and those it is continued with.
std::string encode_segment_header(const pb::SpoolHeader& header);
std::string encode_segment_record(const pb::Frame& frame);

// Everything up to frame.end_lsn() is complete behind it and no transaction is open there.
inline bool is_cut_point(const pb::Frame& frame) { return frame.end_lsn() != 0 && !frame.more(); }

struct ScannedHeader {
  pb::SpoolHeader header = {};
  std::uint64_t bytes = 0;     // of the file, up to the first record
  std::string damage = {};     // empty: the header is whole
  bool other_version = false;  // a segment, but of a format that this program does not know
};

// Errors: only what the storage says.
Result<ScannedHeader> read_segment_header(const StorageFile& file);

enum class Scanned { kRecord, kEnd, kDamaged };

// Reads records forward. One thread; another may append to the file.
class SegmentScanner {
 public:
  SegmentScanner(std::shared_ptr<const StorageFile> file, std::uint64_t offset)
      : file_(std::move(file)), offset_(offset) {}

  // Takes in the record at offset() and goes behind it. `limit`: where the file's content ends.
  // kDamaged stays where it is. Errors: only what the storage says.
  Result<Scanned> next(std::uint64_t limit);

  const pb::Frame& frame() const { return frame_; }
  std::uint64_t offset() const { return offset_; }
  const std::string& damage() const { return damage_; }  // why kDamaged
  const StorageFile& file() const { return *file_; }

 private:
  Result<std::string_view> peek(std::uint64_t bytes, std::uint64_t limit);
  Scanned damaged(std::string why);

  std::shared_ptr<const StorageFile> file_;
  std::uint64_t offset_;
  std::string buffer_;              // content of the file...
  std::uint64_t buffer_begin_ = 0;  // ... from here on
  pb::Frame frame_;
  std::string damage_;
};

}  // namespace bitacora::transport
