import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { BaseError } from '../errors.ts'
import type { TopicOptions } from './stream.ts'

/** Stored record; headers are JSON, offsets fit a double's 2^53 here. */
export interface LogRecord {
  partition: number
  offset: number
  /** Unix ms. */
  timestamp: number
  key: string
  headers: string
  value: Uint8Array
}

/** End of a partition: the next record gets offset `end`. */
export interface PartitionEnd {
  partition: number
  end: number
}

/** Position of a group in a partition. */
export interface GroupPosition extends PartitionEnd {
  position: number
}

const schemaVersion = 1

/** Pages of 16 KiB: images of 100 KiB and more are written about twice as fast as with SQLite's 4 KiB. */
const pageBytes = 16 * 1024
const checkpointBytes = 16 * 1024 * 1024

const schema = `
  CREATE TABLE topics (topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
  CREATE TABLE partitions (topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) STRICT, WITHOUT ROWID;
  CREATE TABLE records (topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (topic, partition, offset)) STRICT;
  CREATE TABLE positions (topic TEXT, group_name TEXT, partition INTEGER, position INTEGER NOT NULL,
    PRIMARY KEY (topic, group_name, partition)) STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${schemaVersion};`

/** SQL for the lowest offset kept of the row of `partitions` at hand. */
const firstOffset = `COALESCE((SELECT MIN(offset) FROM records
  WHERE records.topic = partitions.topic AND records.partition = partitions.partition), next_offset)`

/** The write-ahead log of the file. SQLite itself syncs it before it moves its contents into the file. */
export const logFileOf = (path: string): string => `${path}-wal`

/** The file was written by a later version of Turbine. */
export class NewerSchemaError extends BaseError {}

/**
 * Topics, records and committed positions in one SQLite file. Calls are synchronous, so the log lives in a thread of
 * its own; the file stays locked by the process. Every commit survives the death of the process (write-ahead log), and
 * a power loss once the file `logFileOf` is synced.
 */
export class SqliteLog {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  /** @throws Error of node:sqlite, `errcode` 5 when another connection holds the file; NewerSchemaError. */
  constructor(path: string) {
    this.#database = new DatabaseSync(path)
    try {
      this.#database.exec(`
        PRAGMA page_size = ${pageBytes};
        PRAGMA locking_mode = EXCLUSIVE;
        PRAGMA journal_mode = WAL;
        PRAGMA wal_autocheckpoint = ${checkpointBytes / pageBytes};
        PRAGMA journal_size_limit = ${4 * checkpointBytes};`)
      // Syncs the new files, too.
      this.#database.exec('PRAGMA synchronous = FULL')
      this.transaction(() => this.#createSchema())
      this.#database.exec('PRAGMA synchronous = NORMAL')
    } catch (error) {
      this.#database.close()
      throw error
    }
  }

  /** Runs `work` atomically. */
  transaction<T>(work: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.#database.exec('COMMIT')
      return result
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  /** Creates missing topics and sets the retention of all; returns every topic's partition count. */
  ensureTopics(
    topics: Record<string, Required<Pick<TopicOptions, 'partitions' | 'retentionMs'>>>,
  ): Map<string, number> {
    for (const [topic, { partitions, retentionMs }] of Object.entries(topics)) {
      this.#prepare(
        `INSERT INTO topics VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET retention_ms = excluded.retention_ms`,
      ).run(topic, partitions, retentionMs)
    }
    this.#database.exec(`
      INSERT OR IGNORE INTO partitions
        WITH RECURSIVE numbers (topic, partition) AS (
          SELECT topic, 0 FROM topics UNION ALL
          SELECT topic, partition + 1 FROM numbers JOIN topics USING (topic) WHERE partition + 1 < partitions)
        SELECT topic, partition, 0 FROM numbers`)
    return this.topics()
  }

  /** Every topic's partition count. */
  topics(): Map<string, number> {
    const rows = this.#prepare('SELECT topic, partitions FROM topics').all()
    return new Map(rows.map((row) => [String(row.topic), Number(row.partitions)]))
  }

  /** Gives each record the next offset of its partition; returns the new ends of the partitions touched. */
  append({ topic, records }: { topic: string; records: Omit<LogRecord, 'offset'>[] }): PartitionEnd[] {
    const take = this.#prepare(
      'UPDATE partitions SET next_offset = next_offset + 1 WHERE topic = ? AND partition = ? RETURNING next_offset',
    )
    const insert = this.#prepare('INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)')
    const ends = new Map<number, number>()
    for (const { partition, timestamp, key, headers, value } of records) {
      const end = Number(take.get(topic, partition)?.next_offset)
      insert.run(topic, partition, end - 1, timestamp, key, headers, value)
      ends.set(partition, end)
    }
    return [...ends].map(([partition, end]) => ({ partition, end }))
  }

  /** Creates the group at the oldest record kept; an existing group keeps its positions. */
  join({ topic, group }: { topic: string; group: string }): GroupPosition[] {
    this.#prepare(
      `INSERT OR IGNORE INTO positions
         SELECT topic, ?, partition, ${firstOffset} FROM partitions WHERE topic = ?`,
    ).run(group, topic)
    const rows = this.#prepare(
      `SELECT partition, position, next_offset FROM positions JOIN partitions USING (topic, partition)
         WHERE topic = ? AND group_name = ? ORDER BY partition`,
    ).all(topic, group)
    return rows.map((row) => ({
      partition: Number(row.partition),
      position: Number(row.position),
      end: Number(row.next_offset),
    }))
  }

  /** Records of a partition from offset `from` on: at most `limit`, and at most one after `maxBytes` are reached. */
  read(query: {
    topic: string
    partition: number
    from: number
    limit: number
    maxBytes: number
  }): LogRecord[] {
    const rows = this.#prepare(
      `SELECT offset, timestamp, key, headers, value FROM records
         WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?`,
    ).iterate(query.topic, query.partition, query.from, query.limit)
    const records: LogRecord[] = []
    let bytes = 0
    for (const row of rows) {
      const value = row.value as Uint8Array
      records.push({
        partition: query.partition,
        offset: Number(row.offset),
        timestamp: Number(row.timestamp),
        key: String(row.key),
        headers: String(row.headers),
        value,
      })
      bytes += value.byteLength
      if (bytes >= query.maxBytes) break
    }
    return records
  }

  commit(commit: {
    topic: string
    group: string
    positions: { partition: number; position: number }[]
  }): void {
    const update = this.#prepare(
      'UPDATE positions SET position = ? WHERE topic = ? AND group_name = ? AND partition = ?',
    )
    for (const { partition, position } of commit.positions)
      update.run(position, commit.topic, commit.group, partition)
  }

  /**
   * `lag`: records that the group has not committed; for an unknown group, all that are kept. `taken`: records ever
   * appended to the topic.
   */
  counts({ topic, group }: { topic: string; group: string }): { lag: number; taken: number } {
    const row = this.#prepare(
      `SELECT TOTAL(next_offset) AS taken, TOTAL(next_offset - COALESCE(
           (SELECT position FROM positions WHERE topic = partitions.topic
              AND partition = partitions.partition AND group_name = ?), ${firstOffset})) AS lag
         FROM partitions WHERE topic = ?`,
    ).get(group, topic)
    return { lag: Number(row?.lag), taken: Number(row?.taken) }
  }

  /**
   * Deletes records that every group of their topic has committed and that are older than the topic's retention
   * at `now` (unix ms), at most `limit` of each partition; returns how many. A topic without any group keeps all.
   */
  prune({ now, limit = 1000 }: { now: number; limit?: number }): number {
    const partitions = this.#prepare(
      `SELECT topic, partition, MIN(position) AS committed, retention_ms
         FROM positions JOIN topics USING (topic) GROUP BY topic, partition`,
    ).all()
    const kept = this.#prepare(
      `SELECT COALESCE(MIN(offset), ?) AS first FROM (SELECT offset, timestamp FROM records
         WHERE topic = ? AND partition = ? AND offset < ? ORDER BY offset LIMIT ?) WHERE timestamp > ?`,
    )
    const remove = this.#prepare(
      `DELETE FROM records WHERE (topic, partition, offset) IN (SELECT topic, partition, offset FROM records
         WHERE topic = ? AND partition = ? AND offset < ? ORDER BY offset LIMIT ?)`,
    )
    let deleted = 0
    for (const { topic = null, partition = null, committed = null, retention_ms } of partitions) {
      const oldest = now - Number(retention_ms)
      const end = kept.get(committed, topic, partition, committed, limit, oldest)?.first ?? null
      deleted += Number(remove.run(topic, partition, end, limit).changes)
    }
    return deleted
  }

  close(): void {
    this.#database.close()
  }

  #createSchema(): void {
    const version = Number(this.#database.prepare('PRAGMA user_version').get()?.user_version)
    if (version > schemaVersion)
      throw new NewerSchemaError(`schema version ${version} is newer than ${schemaVersion}`)
    if (version === 0) this.#database.exec(schema)
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql)
    if (known) return known
    const statement = this.#database.prepare(sql)
    this.#statements.set(sql, statement)
    return statement
  }
}
