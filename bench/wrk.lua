-- What wrk sends: BODY to PATH, or to PATH followed by the next key of the file KEYS, each key once in all; with TOKEN as
-- its Bearer token, if there is one.
-- The answers whose status is not EXPECT are counted, and the totals come as one line of JSON.
local body, path, expect = os.getenv("BODY"), os.getenv("REQUEST_PATH"), tonumber(os.getenv("EXPECT"))
local file, threads = os.getenv("KEYS"), {}
local count = tonumber(os.getenv("THREADS"))

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init()
  wrk.method, wrk.body = os.getenv("METHOD"), body ~= "" and body or nil
  if os.getenv("TOKEN") ~= "" then wrk.headers["Authorization"] = "Bearer " .. os.getenv("TOKEN") end
  unexpected, ran_out, keys, nth = 0, 0, {}, 0
  if file ~= "" then
    local line = 0
    for key in io.lines(file) do
      if line % count == number then table.insert(keys, key) end
      line = line + 1
    end
  end
end

function request()
  if file == "" then return wrk.format(nil, path) end
  nth = nth + 1
  if nth > #keys then
    ran_out = 1
    wrk.thread:stop()
    return wrk.format("GET", "/healthz")
  end
  return wrk.format(nil, path .. keys[nth])
end

function response(status)
  if status ~= expect and ran_out == 0 then unexpected = unexpected + 1 end
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
