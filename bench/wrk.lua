-- Sends the content of BODY_FILE to REQUEST_PATH, or to REQUEST_PATH plus the next key of the file KEYS, using each key
-- once, or again and again if REPEATS_KEYS is set; with TOKEN as Bearer token, if it is set.
-- Counts the responses whose status is not EXPECT, and prints the totals as one line of JSON. If REFUSAL is set, a 503
-- with Retry-After and that text is counted separately.
local path, expect = os.getenv("REQUEST_PATH"), tonumber(os.getenv("EXPECT"))
local refusal = os.getenv("REFUSAL")
local file, repeats, threads = os.getenv("KEYS"), os.getenv("REPEATS_KEYS") ~= "", {}
local count = tonumber(os.getenv("THREADS"))

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init()
  local body = io.open(os.getenv("BODY_FILE")):read("*a")
  wrk.method, wrk.body = os.getenv("METHOD"), body ~= "" and body or nil
  if os.getenv("TOKEN") ~= "" then wrk.headers["Authorization"] = "Bearer " .. os.getenv("TOKEN") end
  fixed = wrk.format(nil, path)
  unexpected, refused, ran_out, keys, nth = 0, 0, 0, {}, 0
  if file ~= "" then
    local line = 0
    for key in io.lines(file) do
      if line % count == number then table.insert(keys, key) end
      line = line + 1
    end
  end
end

function request()
  if file == "" then return fixed end
  nth = nth + 1
  if nth > #keys and repeats then nth = 1 end
  if nth > #keys then
    ran_out = 1
    wrk.thread:stop()
    return wrk.format("GET", "/healthz")
  end
  return wrk.format(nil, path .. keys[nth])
end

local function is_refused(status, headers, body)
  return refusal ~= "" and status == 503 and headers["Retry-After"] and body:find(refusal, 1, true)
end

function response(status, headers, body)
  if status == expect or ran_out ~= 0 then return end
  if is_refused(status, headers, body) then refused = refused + 1 else unexpected = unexpected + 1 end
end

function done(summary, latency)
  local unexpected, refused, ran_out = 0, 0, 0
  for _, thread in ipairs(threads) do
    unexpected, refused = unexpected + thread:get("unexpected"), refused + thread:get("refused")
    ran_out = ran_out + thread:get("ran_out")
  end
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"seconds":%.3f,"p50_ms":%.2f,"p99_ms":%.2f,"unexpected":%d,"refused":%d,'
    .. '"ran_out":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    unexpected, refused, ran_out, errors.connect + errors.read + errors.write + errors.timeout))
end
