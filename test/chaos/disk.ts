import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { apart, hasCommand } from '../servers/tools.ts'

/** A disk of its own, which can be full. */
export interface Disk {
  /** Where it is, for other processes of the same user. */
  folder: string
  /** Leaves no room. */
  fill(): Promise<void>
  free(): Promise<void>
  remove(): Promise<void>
}

const mebibytes = 2048

/**
 * Makes a file system in memory, in a mount namespace of its own: that takes no rights, nobody else sees it, and it
 * goes with this process, however that ends. Undefined where the machine does not allow it.
 */
export async function makeDisk(): Promise<Disk | undefined> {
  if (!hasCommand('unshare')) return undefined
  const point = await mkdtemp(join(tmpdir(), 'turbine-disk-'))
  const shell = spawn('unshare', ['--map-root-user', '--mount', 'sh'], {
    ...apart,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  shell.stdin.on('error', () => {})
  const size = `size=${mebibytes}m`
  const remove = async () => {
    if (isRunning(shell)) {
      const exited = once(shell, 'exit')
      shell.stdin.end()
      await exited
    }
    await rm(point, { recursive: true })
  }
  if (!(await runIn(shell, `mount -t tmpfs -o ${size} turbine ${point}`))) {
    await remove()
    return undefined
  }
  const folder = `/proc/${shell.pid}/root${point}`
  const resize = (size: string) => runIn(shell, `mount -o remount,${size} ${point}`)
  return {
    folder,
    async fill() {
      // What is written in between makes the size too small, which is refused.
      for (let spare = 0; spare < 100; spare++) {
        const { blocks, bfree, bsize } = await statfs(folder)
        if (await resize(`size=${(blocks - bfree + spare) * bsize}`)) return
      }
      throw new Error(`The disk at ${folder} cannot be filled.`)
    },
    async free() {
      if (!(await resize(size))) throw new Error(`The disk at ${folder} cannot be freed.`)
    },
    remove,
  }
}

const isRunning = ({ exitCode, signalCode }: ChildProcess) => exitCode === null && signalCode === null

/** Runs a command in a shell, and says whether it could. */
async function runIn(shell: ChildProcess, command: string): Promise<boolean> {
  if (!isRunning(shell)) return false
  const answered = once(shell.stdout!, 'data').then(([answer]) => String(answer).trim() === 'done')
  const ended = once(shell, 'exit').then(() => false)
  shell.stdin!.write(`${command} >/dev/null 2>&1 && echo done || echo failed\n`)
  return Promise.race([answered, ended])
}
