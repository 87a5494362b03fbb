#include "engine/status_server.h"

#include <httplib.h>

#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "base/log.h"

namespace bitacora::engine {
namespace {

// Without SO_REUSEPORT, httplib's default: a second process on the same port must fail, not share
// it.
void reuse_address_only(socket_t socket) {
  const int yes = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
}

void answer(const Result<std::string>& result, httplib::Response& response) {
  if (result.ok()) return response.set_content(*result, "text/plain");
  const auto& error = result.error();
  response.status = 409;
  const nlohmann::json document = {
      {"code", exit_code(error)}, {"message", redacted(error.message)}, {"hint", error.hint}};
  response.set_content(document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                       "application/json");
}

}  // namespace

StatusServer::StatusServer() : server_(std::make_unique<httplib::Server>()) {}

Result<std::unique_ptr<StatusServer>> StatusServer::start(const std::string& address,
                                                          std::function<std::string()> document,
                                                          Control control) {
  std::unique_ptr<StatusServer> status(new StatusServer);
  const auto colon = address.rfind(':');
  httplib::Server& server = *status->server_;
  server.set_socket_options(reuse_address_only);
  server.Get("/status", [document = std::move(document)](const httplib::Request&,
                                                         httplib::Response& response) {
    response.set_content(document(), "application/json");
  });
  if (control) {
    server.Post(R"(/(resync|resync_state|sequences|forget))", [control = std::move(control)](
                                                                  const httplib::Request& request,
                                                                  httplib::Response& response) {
      if (!request.has_header(kControlHeader)) {
        response.status = 403;
        return;
      }
      answer(control({request.matches[1], request.get_param_value("argument")}), response);
    });
  }
  if (!server.bind_to_port(address.substr(0, colon).c_str(),
                           std::stoi(address.substr(colon + 1)))) {
    return Error{ErrorCode::kConfiguration,
                 fmt::format("cannot listen on {} for the status page", address),
                 "check that the address is this host's and the port is free, or choose another "
                 "with --http"};
  }
  status->listener_ = std::jthread([&server] { server.listen_after_bind(); });
  // stop() only ends a server that already runs.
  while (!server.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return status;
}

StatusServer::~StatusServer() { server_->stop(); }

}  // namespace bitacora::engine
