#include "wal/publication_watch.h"

#include <string_view>

namespace bitacora::wal {
namespace {

// "skipped loading publication": the only warning of its SQLSTATE in logical decoding.
void note_skipped_publication(void* warning, const PGresult* notice) {
  const char* state = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
  const char* text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
  if (state != nullptr && std::string_view(state) == "55000" && text != nullptr) {
    *static_cast<std::string*>(warning) = text;
  }
}

}  // namespace

PublicationWatch::PublicationWatch(PGconn* connection) : warning_(std::make_unique<std::string>()) {
  PQsetNoticeReceiver(connection, note_skipped_publication, warning_.get());
}

Result<void> PublicationWatch::check() const {
  if (warning_->empty()) return {};
  return Error{ErrorCode::kMaster, "the master " + *warning_,
               "create it again and copy the tables anew: the slot does not bring what was "
               "written without it"};
}

}  // namespace bitacora::wal
