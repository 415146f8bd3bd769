import { setTimeout as delay } from 'node:timers/promises'
import type { Caption } from '../../edge/contract/caption.ts'
import type { ErrorBody } from '../../edge/contract/errors.ts'
import { startTurbine, type Turbine, type TurbineOptions } from './turbine.ts'

/** `turbine serve` that is ready. */
export interface Service {
  url: string
  turbine: Turbine
}

export interface ServiceOptions extends TurbineOptions {
  dataDir: string
  /** More of the command line. */
  args?: string[]
}

/** Starts the service on a free port and waits until it says that it is ready. */
export async function startService({ dataDir, args = [], ...options }: ServiceOptions): Promise<Service> {
  const turbine = startTurbine(['serve', '--port', '0', '--data-dir', dataDir, ...args], options)
  const [, url] = await turbine.prints(/ready at (http:\S+)\n(?:.*\n)*.*\/v1\/captions\n/)
  return { url: url!, turbine }
}

export interface AskOptions {
  /** Options in the query. */
  query?: Record<string, string | number>
  headers?: Record<string, string>
}

/** Posts an image's bytes. */
export function postImage(
  { url }: Service,
  image: Uint8Array<ArrayBuffer>,
  { query = {}, headers = {} }: AskOptions = {},
): Promise<Response> {
  const options = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) options.set(name, String(value))
  return fetch(`${url}/v1/captions?${options}`, {
    method: 'POST',
    body: image,
    headers: { 'content-type': 'image/jpeg', ...headers },
  })
}

/** Posts a JSON request. */
export function postJson({ url }: Service, request: unknown): Promise<Response> {
  return fetch(`${url}/v1/captions`, {
    method: 'POST',
    body: JSON.stringify(request),
    headers: { 'content-type': 'application/json' },
  })
}

/** Posts an image without waiting for its caption, and returns the id under which it was accepted. */
export async function postAsync(
  service: Service,
  image: Uint8Array<ArrayBuffer>,
  query?: AskOptions['query'],
): Promise<string> {
  const response = await postImage(service, image, { query, headers: { prefer: 'respond-async' } })
  if (!response.ok) throw new Error(`answered with ${response.status}: ${await response.text()}`)
  return (await captionOf(response)).id
}

export const captionOf = async (response: Response) => (await response.json()) as Caption

export const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error

/** The caption of a 200 answer. */
export async function completedOf(response: Response): Promise<Extract<Caption, { status: 'completed' }>> {
  if (response.status !== 200) throw new Error(`answered with ${response.status}: ${await response.text()}`)
  const caption = await captionOf(response)
  if (caption.status !== 'completed') throw new Error(`the caption is ${caption.status}`)
  return caption
}

export const getCaption = ({ url }: Service, id: string) => fetch(`${url}/v1/captions/${id}`)

/** Polls until the result is there. */
export async function finished(service: Service, id: string): Promise<Response> {
  for (;;) {
    const response = await getCaption(service, id)
    if (response.status !== 202) return response
    await response.body?.cancel()
    await delay(20)
  }
}

/** Sum of a metric over all of its labels. */
export async function metric({ url }: Service, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const samples = text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))
  return [...samples].reduce((sum, [, value]) => sum + Number(value), 0)
}
