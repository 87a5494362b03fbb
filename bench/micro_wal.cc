// Decoding and encoding, as the sender's reader does them.
#include <memory>
#include <utility>

#include "base/check.h"
#include "bench/played_changes.h"
#include "bench/subject.h"
#include "wal/batch_builder.h"
#include "wal/pgoutput_decoder.h"

namespace bitacora::bench {
namespace {

Subject decode(const PlayedChanges& changes) {
  return {"decode/" + changes.name, changes.rows, changes.bytes(), 0, [changes] {
            auto decoder = std::make_shared<wal::PgOutputDecoder>(kPlayedOptions);
            return [changes, decoder] {
              for (const auto& message : changes.messages) CHECK(decoder->decode(message).ok());
            };
          }};
}

// Row blocks, and the batch's serialization.
Subject encode(const PlayedChanges& changes) {
  return {"encode/" + changes.name, changes.rows, changes.bytes(), 0, [changes] {
            auto kept = std::make_shared<const PlayedChanges>(changes);  // what messages point into
            std::vector<wal::PgOutputMessage> messages;
            wal::PgOutputDecoder decoder(kPlayedOptions);
            for (const auto& message : kept->messages)
              messages.push_back(**decoder.decode(message));
            return [kept, messages = std::move(messages)] {
              wal::BatchBuilder builder;
              for (const auto& message : messages) CHECK(builder.append(message).ok());
              CHECK(!builder.take().bytes.empty());
            };
          }};
}

}  // namespace

std::vector<Subject> wal_subjects() {
  std::vector<Subject> subjects;
  for (const auto& changes : played_changes()) {
    subjects.push_back(decode(changes));
    subjects.push_back(encode(changes));
  }
  return subjects;
}

}  // namespace bitacora::bench
