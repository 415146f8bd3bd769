import type { InferenceSession } from 'onnxruntime-node'
import { expect, it, vi } from 'vitest'
import { OnDemand } from './on-demand.ts'

const sessionOf = () => ({ release: vi.fn(async () => {}) }) as unknown as InferenceSession

it('opens a session once, when it is needed', async () => {
  const session = sessionOf()
  const open = vi.fn(async () => session)
  const onDemand = new OnDemand(open)
  expect(open).not.toHaveBeenCalled()
  expect(await Promise.all([onDemand.get(), onDemand.get()])).toEqual([session, session])
  expect(open).toHaveBeenCalledOnce()
  await onDemand.close()
  expect(session.release).toHaveBeenCalledOnce()
})

it('closes nothing that was never opened', async () => {
  const open = vi.fn(async () => sessionOf())
  await new OnDemand(open).close()
  expect(open).not.toHaveBeenCalled()
})

it('tries again what could not be opened', async () => {
  const session = sessionOf()
  const open = vi.fn(async () => session).mockRejectedValueOnce(new Error('no memory'))
  const onDemand = new OnDemand(open)
  await expect(onDemand.get()).rejects.toThrow('no memory')
  await onDemand.close()
  expect(await onDemand.get()).toBe(session)
})
