import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

export interface CoresOptions {
  /** What the system says; default: this process's. */
  parallelism?: number
  /** A file of the container's limits; default: reads it. @returns undefined where there is none */
  read?(path: string): string | undefined
}

/**
 * Cores that this process may use: those that it may run on, or as many as its container's limit of CPU time stands for, if
 * that is less (cgroup v2's `cpu.max`, v1's quota).
 */
export function availableCores({
  parallelism = availableParallelism(),
  read = textOf,
}: CoresOptions = {}): number {
  const [quota, period] = quotaIn(read)
  const limit = quota > 0 && period > 0 ? Math.ceil(quota / period) : parallelism
  return Math.max(1, Math.min(parallelism, limit))
}

/** Microseconds of CPU time in each period; not a number without a limit. */
function quotaIn(read: NonNullable<CoresOptions['read']>): [quota: number, period: number] {
  const both = read('/sys/fs/cgroup/cpu.max')
  if (both !== undefined) return both.trim().split(' ').map(Number) as [number, number]
  const [quota, period] = ['quota', 'period'].map((name) =>
    Number(read(`/sys/fs/cgroup/cpu/cpu.cfs_${name}_us`) ?? Number.NaN),
  )
  return [quota!, period!]
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** What the cores of a process are for. */
export interface CoreSplit {
  cores: number
  /** Loader threads. */
  loaders: number
  /** Decoders of each lane, processes with one thread for an image. */
  decoders: number
  /** Threads of an operator of the model on the CPU. */
  intraOpThreads: number
  /** Threads of Node's pool, which reads files and looks up names for all threads of the process. */
  poolThreads: number
}

export interface SplitOptions {
  cores?: number
  /** Whether the model runs on the cores too. */
  onCpu: boolean
  /** As they are set; 0: by the cores. */
  loaders?: number
  decoders?: number
  intraOpThreads?: number
}

/** Node's own. */
const leastPoolThreads = 4

/** Splits the cores of a process: where the model runs on them, loaders get half. */
export function splitCores({
  cores = availableCores(),
  onCpu,
  loaders = 0,
  decoders = 0,
  intraOpThreads = 0,
}: SplitOptions): CoreSplit {
  const loading = loaders || (onCpu ? Math.max(1, cores >> 1) : cores)
  return {
    cores,
    loaders: loading,
    decoders: decoders || loading,
    intraOpThreads: intraOpThreads || (onCpu ? cores : 1),
    poolThreads: poolThreads(cores),
  }
}

/** It is set before the pool is used, so before anything is known of the model. */
export const poolThreads = (cores = availableCores()): number => Math.max(leastPoolThreads, 2 * cores)
