import { expect, test } from 'vitest'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { HostFault, imageFaults } from '../../../infra/fetch/faults.ts'
import { DecoderLostError } from '../decoder.ts'
import { fromWire, toWire } from './wire-error.ts'

test.each([
  ['of an image', imageFaults.badType('text/html'), ImageError],
  ['of a host', imageFaults.badStatus({ status: 503, host: 'example.com', afterMs: 3000 }), HostFault],
  ['of a silent host', imageFaults.timedOut(100), HostFault],
  ['of another kind', imageFaults.noPlace(), TurbineError],
  ['of a lost decoder', new DecoderLostError('memory', 'SIGKILL'), DecoderLostError],
  [
    'with a cause',
    new ImageError('image_invalid', 'bad', { cause: new Error('libvips'), status: 415 }),
    ImageError,
  ],
])('an error %s is the same on the other side', (_, error: Error, kind) => {
  const passed = fromWire(structuredClone(toWire(error)))
  expect(passed).toBeInstanceOf(kind)
  const fields = ({ cause, stack, ...all }: Error) => ({ ...all, message: error.message })
  expect(fields(passed)).toEqual(fields(error))
  expect(passed.message).toBe(error.message)
  if (error.cause !== undefined) expect(String(passed.cause)).toContain(String(error.cause))
})

test('what is no error of ours keeps what it says', () => {
  expect(fromWire(toWire(new RangeError('odd', { cause: 'x' })))).toMatchObject({
    message: 'odd',
    cause: 'x',
  })
  expect(fromWire(toWire('text')).message).toBe('text')
})
