/** Digits of a shard's number in a key, so that keys sort by number. */
const shardDigits = 8

/** All object keys of the store. Tenants and ids consist of letters, digits, `-` and `_`. */
export const keys = {
  /** Prefix of the results and images of a tenant's interactive requests. */
  captions: (tenant: string) => `captions/${tenant}/`,
  /** Result of an interactive request, or its queued mark. */
  caption: (tenant: string, id: string) => `${keys.captions(tenant)}${id}.json`,
  /** Bytes of an image too large for a record. */
  captionImage: (tenant: string, id: string) => `${keys.captions(tenant)}${id}.image`,

  /** A `StoredFile`: the File object and the positions of its content. */
  file: (tenant: string, id: string) => `${keys.files(tenant)}${id}.json`,
  /** Prefix of all files of a tenant. */
  files: (tenant: string) => `files/${tenant}/info/`,
  fileContent: (tenant: string, id: string) => `${keys.fileContents(tenant)}${id}`,
  fileContents: (tenant: string) => `files/${tenant}/content/`,

  /** A `StoredUpload`. */
  upload: (tenant: string, id: string) => `uploads/${tenant}/info/${id}.json`,
  uploadPart: (tenant: string, upload: string, part: string) => `${keys.uploadParts(tenant, upload)}${part}`,
  uploadParts: (tenant: string, upload: string) => `${keys.uploadContents(tenant)}${upload}/`,
  uploadContents: (tenant: string) => `uploads/${tenant}/content/`,

  /** A `StoredBatch`. */
  batch: (tenant: string, id: string) => `${keys.batches(tenant)}${id}.json`,
  /** Prefix of all batches of a tenant. */
  batches: (tenant: string) => `batches/${tenant}/`,
  /** Exists until the batch is in its final state; planners run these batches. */
  openBatch: (tenant: string, id: string) => `${keys.openBatches}${tenant}/${id}`,
  openBatches: 'open-batches/',
  /** Prefix of what the planners and processors of a tenant's batches write. */
  batchWork: (tenant: string) => `batch-work/${tenant}/`,
  /** Exists when the batch is to be cancelled. */
  batchCancel: (tenant: string, id: string) => `batch-work/${tenant}/${id}/cancel`,
  /** The coordinator's own state. */
  batchProgress: (tenant: string, id: string) => `batch-work/${tenant}/${id}/progress.json`,
  /** Exists when a planner has lost the batch while it was alive. */
  batchSurvival: (tenant: string, id: string) => `batch-work/${tenant}/${id}/survival.json`,
  /** Positions of the shards in the manifest, once it is read completely. */
  batchPlan: (tenant: string, id: string) => `batch-work/${tenant}/${id}/plan.jsonl`,
  /** Manifest generated from a bucket prefix, or from a list that is no file of lines. */
  batchManifest: (tenant: string, id: string) => `batch-work/${tenant}/${id}/manifest.jsonl`,
  /** Counts of what was left out below a bucket prefix; written once the manifest is complete. */
  batchSkipped: (tenant: string, id: string) => `batch-work/${tenant}/${id}/skipped.json`,
  /** The results of one shard. */
  batchShard: (tenant: string, id: string, shard: number) =>
    `${keys.batchShards(tenant, id)}${String(shard).padStart(shardDigits, '0')}`,
  batchShards: (tenant: string, id: string) => `batch-work/${tenant}/${id}/shards/`,

  /** A `ServedModel`, written by the processors that serve it. */
  model: (id: string) => `${keys.models}${encodeURIComponent(id)}.json`,
  models: 'models/',

  /** A `PlannerBacklog`, written by the planner of this name. */
  backlog: (planner: string) => `${keys.backlogs}${planner}.json`,
  backlogs: 'pace/',

  /** A `StoredApiKey`, by the SHA-256 of the key in hex. */
  apiKey: (hash: string) => `${keys.apiKeys}${hash}.json`,
  apiKeys: 'api-keys/',
  /** A `Tenant`. */
  tenant: (id: string) => `${keys.tenants}${id}.json`,
  tenants: 'tenants/',
  /** A `StorageUsage`. */
  usage: (tenant: string) => `${keys.usages}${tenant}.json`,
  usages: 'usage/',
  /** A `SweepState`. */
  sweep: 'sweep.json',
  /** Written now and then to see whether the store can be. */
  ready: 'ready',

  /** The claim of an idempotency key, by its SHA-256 in hex. */
  idempotency: (tenant: string, hash: string) => `idempotency/${tenant}/${hash}.json`,

  /** Count of process crashes while handling a record; deleted when the record is done. */
  crashMark: (topic: string, record: string) => `crashes/${topic}/${record}`,
} as const
