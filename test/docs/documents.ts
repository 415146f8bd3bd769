import { readdir, readFile } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Root of the repository. */
export const root = fileURLToPath(new URL('../..', import.meta.url))

/** A Markdown file of the project. */
export interface Document {
  /** Path from the root, with forward slashes. */
  path: string
  text: string
}

const skipped = /^(node_modules|\..*)$/

/** Every Markdown file of the project, by path. */
export async function readDocuments(): Promise<Document[]> {
  const paths = (await markdownBelow(root)).sort()
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(root, path), 'utf8') })))
}

async function markdownBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const found = await Promise.all(
    entries.map(async (entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return skipped.test(entry.name) ? [] : markdownBelow(path)
      return entry.name.endsWith('.md') ? [relative(root, path).split(sep).join('/')] : []
    }),
  )
  return found.flat()
}

/** A fenced code block. */
export interface CodeBlock {
  /** Number of its first line of code, from 1. */
  line: number
  /** First word of the info string, e.g. `sh`; empty where there is none. */
  language: string
  /** The rest of the info string, e.g. `no-run: needs Kafka`. */
  mark: string
  code: string
}

/** The fenced code blocks of a Markdown text, in order. */
export function codeBlocks(text: string): CodeBlock[] {
  const blocks: CodeBlock[] = []
  let open: { block: CodeBlock; fence: string; lines: string[] } | undefined
  for (const [index, line] of text.split('\n').entries()) {
    const [, fence = '', info = ''] = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(line) ?? []
    if (!open && fence) {
      const [, language = '', mark = ''] = /^\s*(\S*)\s*(.*?)\s*$/.exec(info)!
      open = { block: { line: index + 2, language, mark, code: '' }, fence, lines: [] }
    } else if (open && fence.startsWith(open.fence) && info.trim() === '') {
      blocks.push({ ...open.block, code: open.lines.join('\n') })
      open = undefined
    } else open?.lines.push(line)
  }
  return blocks
}

/** A text without its code blocks, where nothing is a link or a heading. */
const prose = (text: string) => text.replace(/^ {0,3}(`{3,}|~{3,})[\s\S]*?^ {0,3}\1\s*$/gm, '')

/** Targets of the links and pictures of a Markdown text. */
export function linkTargets(text: string): string[] {
  const withoutCode = prose(text).replace(/`[^`\n]*`/g, 'code')
  return [...withoutCode.matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target!)
}

/** Anchors of a text's headings, as GitHub makes them. */
export function anchors(text: string): string[] {
  return [...prose(text).matchAll(/^#{1,6} +(.+)$/gm)].map(([, heading]) =>
    heading!
      .trim()
      .toLowerCase()
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-'),
  )
}
