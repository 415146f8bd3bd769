import { jsonLine } from '../../../edge/contract/lines.ts'

/** Identity of a line of the output or error file. */
interface ResultOf {
  /** `batch_req_...`, deterministic. */
  id: string
  /** Null where it cannot be read. */
  customId: string | null
}

interface Response {
  statusCode: number
  requestId: string
  body: unknown
}

interface OutputLine extends ResultOf, Response {}

/** Error of a line. */
interface LineError {
  code: string
  message: string
  /** The field at fault. */
  param?: string | null
  /** Number of the line in the manifest, from 1. */
  line?: number
}

/** `response`: the service refused the request. `error`: the line was never run. */
export type ErrorLine = ResultOf & ({ response: Response } | { error: LineError })

/**
 * Derives the ids of a line's result; deterministic, so that a repeated line gives the same result line.
 * @param line number of the line in the manifest, from 1
 */
export function resultIds(batch: string, line: number): { id: string; requestId: string } {
  const name = `${batch.replace(/^batch_/, '')}_${line}`
  return { id: `batch_req_${name}`, requestId: `req_${name}` }
}

/** A line of the output file in OpenAI's shape, without a line end. */
export function outputLine({ id, customId, ...response }: OutputLine): string {
  return resultLine({ id, customId, response: onWire(response), error: null })
}

/** A line of the error file in OpenAI's shape, without a line end. */
export function errorLine(line: ErrorLine): string {
  const { id, customId } = line
  if ('response' in line) return resultLine({ id, customId, response: onWire(line.response), error: null })
  return resultLine({ id, customId, response: null, error: line.error })
}

const onWire = ({ statusCode, requestId, body }: Response) => ({
  status_code: statusCode,
  request_id: requestId,
  body,
})

const resultLine = ({ customId, id, ...result }: ResultOf & { response: unknown; error: unknown }) =>
  jsonLine({ id, custom_id: customId, ...result })
