import { expect, test } from 'vitest'
import { consumedRecord } from './kafka-record.ts'

test('a record that others have sent: no key, no value, headers of any kind', () => {
  const headers = {
    text: 'a',
    bytes: Buffer.from('é'),
    twice: ['first', Buffer.from('last')],
    none: undefined,
  }
  const message = {
    key: null,
    value: null,
    timestamp: '17',
    attributes: 0,
    offset: '9007199254740993',
    headers,
  }
  expect(consumedRecord('jobs', 3, message)).toEqual({
    topic: 'jobs',
    partition: 3,
    offset: 9007199254740993n,
    timestamp: 17,
    key: '',
    value: new Uint8Array(0),
    headers: { text: 'a', bytes: 'é', twice: 'last', none: '' },
  })
})

test('does not keep what was fetched around it', () => {
  const fetched = Buffer.from('before value after')
  const value = fetched.subarray(7, 12)
  const record = consumedRecord('jobs', 0, {
    key: null,
    value,
    timestamp: '0',
    attributes: 0,
    offset: '0',
    headers: {},
  })
  expect(record.value.buffer.byteLength).toBe(5)
  expect(Buffer.from(record.value).toString()).toBe('value')
})
