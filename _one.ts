import { readFileSync } from 'node:fs'
import { preprocess } from './processor/engine/preprocess.ts'
import sharp from 'sharp'
const hwm=()=>Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status','utf8'))![1])*1024
const b=readFileSync(process.argv[2]!)
const t=new Uint8Array(384*384*3)
const spec={width:384,height:384,resample:'bicubic'} as const
await preprocess(readFileSync('/tmp/dec/img/j05.jpg'),spec,t)
const base=process.memoryUsage.rss()
const t0=performance.now(), c0=process.cpuUsage()
let e=''
try{await preprocess(b,spec,t)}catch(x:any){e=x.code+' '+String(x.cause)}
const c=process.cpuUsage(c0)
const m=await sharp(b,{limitInputPixels:false}).metadata()
console.log(process.argv[2]!.split('/').pop()!.padEnd(18), 'base',Math.round(base/1e6),'peak+',Math.round((hwm()-base)/1e6),'after',Math.round((process.memoryUsage.rss()-base)/1e6),'B/px',((hwm()-base)/m.width/m.height).toFixed(2),'ms',Math.round(performance.now()-t0),'cpu',Math.round((c.user+c.system)/1e3),'ms/MP',((c.user+c.system)/1e3/(m.width*m.height/1e6)).toFixed(0),e.slice(0,60))
