-- Each user of the file TOKENS in turn likes POST_PATH; then all of them dislike it, and so on, so that every request
-- changes a reaction. Counts as wrk.lua does.
local file, path = os.getenv("TOKENS"), os.getenv("POST_PATH")
local count, threads = tonumber(os.getenv("THREADS")), {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init()
  unexpected, users, nth = 0, {}, 0
  local line = 0
  for token in io.lines(file) do
    if line % count == number then table.insert(users, { Authorization = "Bearer " .. token }) end
    line = line + 1
  end
end

function request()
  local round, user = math.floor(nth / #users), nth % #users
  nth = nth + 1
  return wrk.format("PUT", path .. (round % 2 == 0 and "/like" or "/dislike"), users[user + 1])
end

function response(status)
  if status ~= 200 then unexpected = unexpected + 1 end
end

function done(summary, latency)
  local unexpected = 0
  for _, thread in ipairs(threads) do unexpected = unexpected + thread:get("unexpected") end
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.3f,"p50_ms":%.2f,"p99_ms":%.2f,"unexpected":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    unexpected, errors.connect + errors.read + errors.write + errors.timeout))
end
