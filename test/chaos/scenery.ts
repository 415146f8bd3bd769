import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { caption, heldOutScenes } from '../../infra/starter-model/scenes.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { drawPictures } from '../e2e/pictures.ts'

/** A picture with its caption, at all the addresses at which it can be had. */
export interface ChaosPicture {
  jpeg: Uint8Array<ArrayBuffer>
  data: string
  http: string
  s3: string
  /** What it shows; the service's own words for it are in `expected`. */
  truth: string
  /** What the starter model says without pruning; undefined until it has been asked. */
  expected?: string
}

export interface Scenery {
  pictures: ChaosPicture[]
  /** Of the web server: an address without a picture, and one of a text. */
  missing: string
  text: string
  close(): void
}

/** Draws pictures, puts them into a bucket, and serves them from a web server of this process. */
export async function openScenery(
  count: number,
  bucket: { name: string; store: ObjectStore },
): Promise<Scenery> {
  const [drawn, truths] = [await drawPictures(count), heldOutScenes(1, count).map(caption)]
  const server = createServer((request, response) => {
    const [, number] = /^\/(\d+)\.jpg$/.exec(request.url ?? '') ?? []
    const picture = drawn[Number(number ?? -1)]
    if (picture) response.setHeader('content-type', 'image/jpeg').end(picture.jpeg)
    else if (request.url === '/text') response.setHeader('content-type', 'image/jpeg').end('this is no image')
    else response.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const web = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await Promise.all(drawn.map(({ jpeg }, i) => bucket.store.put(`scenes/${i}.jpg`, jpeg)))
  return {
    pictures: drawn.map(({ jpeg }, i) => ({
      jpeg,
      data: `data:image/jpeg;base64,${Buffer.from(jpeg).toString('base64')}`,
      http: `${web}/${i}.jpg`,
      s3: `s3://${bucket.name}/scenes/${i}.jpg`,
      truth: truths[i]!,
    })),
    missing: `${web}/none.jpg`,
    text: `${web}/text`,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
