#include "wal/patient_query.h"

#include <utility>

#include "wal/answer_wait.h"

namespace bitacora::wal {

PatientQuery::PatientQuery(PGconn* connection, const std::string& conninfo, OnWaiting waiting,
                           std::stop_token stop)
    : connection_(connection),
      watch_(conninfo),
      waiting_(std::move(waiting)),
      stop_(std::move(stop)) {}

Result<MasterResult> PatientQuery::rows(const std::string& sql,
                                        const std::vector<std::string>& values,
                                        const std::string& doing) {
  std::vector<const char*> texts;
  for (const auto& value : values) texts.push_back(value.c_str());
  if (PQsendQueryParams(connection_, sql.c_str(), static_cast<int>(texts.size()), nullptr,
                        texts.data(), nullptr, nullptr, 0) != 1)
    return master_error(connection_, doing);
  const auto tell = [&] { watch_.tell(PQbackendPID(connection_), waiting_); };
  RETURN_IF_ERROR(AnswerWait(connection_, doing, tell, stop_).answer());
  MasterResult rows(PQgetResult(connection_));
  if (PQresultStatus(rows.get()) != PGRES_TUPLES_OK)
    return master_error(connection_, doing, rows.get());
  const MasterResult none(PQgetResult(connection_));
  return rows;
}

}  // namespace bitacora::wal
