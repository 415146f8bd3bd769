import type { ConsumedRecord, StreamRecord } from '../../infra/stream/stream.ts'

/** A record as a consumer gets it, for tests. */
export const consumed = (
  record: Partial<StreamRecord>,
  place: Partial<Pick<ConsumedRecord, 'topic' | 'partition' | 'offset' | 'timestamp'>> = {},
): ConsumedRecord => ({
  key: 'key',
  value: new Uint8Array(0),
  headers: {},
  topic: 'topic',
  partition: 0,
  offset: 0n,
  timestamp: 0,
  ...record,
  ...place,
})

/** Keeps what is sent, by topic; while `away` is set, sending fails with it. */
export class FakeSender {
  readonly sent: { topic: string; record: StreamRecord }[] = []
  away: Error | undefined

  async send(topic: string, records: StreamRecord[]): Promise<void> {
    if (this.away) throw this.away
    this.sent.push(...records.map((record) => ({ topic, record })))
  }
}
