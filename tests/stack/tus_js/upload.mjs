// Uploads a file with tus-js-client. The only argument is JSON with these members:
// `endpoint`: the URL that creates uploads; `path`: the file; `chunkSize`: bytes for each request, null for one request;
// `state`: the file in which the client remembers uploads, from which a later run resumes; `retryDelays`: milliseconds.
// Prints one JSON object a line: the URL of the upload, the bytes sent, the bytes accepted, the status (0: none) of a
// failure after which it may retry, and the outcome.
import { createReadStream } from 'node:fs'
import * as tus from 'tus-js-client'

const { endpoint, path, chunkSize, state, retryDelays } = JSON.parse(process.argv[2])

function print(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`)
}

function statusOf(error) {
  return error.originalResponse?.getStatus() ?? 0
}

const upload = new tus.Upload(createReadStream(path), {
  endpoint,
  chunkSize: chunkSize ?? Infinity,
  retryDelays,
  metadata: { filename: 'a file' },
  urlStorage: new tus.FileUrlStorage(state),
  removeFingerprintOnSuccess: true,
  onUploadUrlAvailable: () => {
    print({ url: upload.url })
    // With an endpoint, the client begins anew if the server fails when it asks for the offset.
    upload.options.endpoint = null
  },
  onProgress: (sent) => print({ sent }),
  onChunkComplete: (_, accepted) => print({ accepted }),
  onShouldRetry: (error, attempt, options) => {
    print({ failed: statusOf(error) })
    return tus.defaultOptions.onShouldRetry(error, attempt, options)
  },
  onSuccess: () => print({ outcome: 'success' }),
  onError: (error) => {
    print({ outcome: 'error', status: statusOf(error) })
    process.exitCode = 1
  },
})
const [previous] = await upload.findPreviousUploads()
if (previous) upload.resumeFromPreviousUpload(previous)
upload.start()
