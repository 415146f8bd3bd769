import { expect, test } from 'vitest'
import { startPeer } from './process.ts'
import { captioners, type Given } from './sides.ts'

const node = (code: string) => startPeer(process.execPath, ['--input-type=module', '-e', code])
const opened = `console.log('{"versions": {"it": "1"}}');`

test('a peer answers line by line, and ends when it is closed', async () => {
  const peer = await node(`${opened}
    import { createInterface } from 'node:readline'
    for await (const line of createInterface({ input: process.stdin }))
      console.log(JSON.stringify({ ms: 1, cpu_ms: 1, peak_rss_mb: 1, ids: [[JSON.parse(line).batch]] }))`)
  expect(peer.versions).toEqual({ it: '1' })
  expect((await peer.ask({ batch: 3 })).ids).toEqual([[3]])
  expect((await peer.ask({ batch: 4 })).ids).toEqual([[4]])
  await peer.close()
})

test('one that dies says what it said last', async () => {
  await expect(node(`console.error('first\\nno such file'); process.exit(3)`)).rejects.toThrow('no such file')
  const peer = await node(`${opened} console.error('out of memory'); process.exit(1)`)
  await expect(peer.ask({ batch: 1 })).rejects.toThrow('out of memory')
  await peer.close()
})

test('peers that are not installed name the command that installs them', async () => {
  const given: Given = { folder: '', pictures: '', threads: 1, ids: 1 }
  for (const [name, side] of Object.entries(captioners))
    if (!name.startsWith('turbine'))
      await expect(side.open(given), name).rejects.toThrow('npm run bench -- peers --install')
})
