"""Loads from global memory that the compiler does not find by itself."""

from llvmlite import ir

from kernels.cuda_api import SIMULATING, intrinsic, types, u32

if SIMULATING:

    def load4(array, index):
        return tuple(array[int(index) + q] for q in range(4))

    def load_if(present, array, index, otherwise):
        return array[u32(index)] if present else otherwise

else:
    _U64, _GLOBAL = ir.IntType(64), 1

    def _element(context, builder, array, argument, index):
        data = context.make_array(array)(context, builder, argument).data
        element = builder.gep(data, [builder.zext(index, _U64)])
        return builder.addrspacecast(element, ir.PointerType(data.type.pointee, _GLOBAL))

    @intrinsic
    def load4(typing_context, array, index):
        """(array[index], ... array[index + 3]) with one load; ``index`` is a multiple of 4."""

        def emit(context, builder, signature, arguments):
            element = _element(context, builder, array, *arguments)
            vector = ir.VectorType(element.type.pointee, 4).as_pointer(_GLOBAL)
            four = builder.load(builder.bitcast(element, vector), align=16)
            values = [builder.extract_element(four, ir.IntType(32)(q)) for q in range(4)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(array.dtype, 4)(array, types.uint64), emit

    @intrinsic
    def load_if(typing_context, present, array, index, otherwise):
        """array[index] if ``present``, a uint32, is not 0, else ``otherwise``: without a branch."""

        def emit(context, builder, signature, arguments):
            bits, *place, other = arguments
            address = builder.ptrtoint(_element(context, builder, array, *place), _U64)
            letter, size = ("f", 32) if array.dtype == types.float32 else ("d", 64)
            load = ir.InlineAsm(
                ir.FunctionType(other.type, [bits.type, _U64, other.type]),
                f"{{ .reg .pred p; setp.ne.u32 p, $1, 0; @p ld.global.f{size} $0, [$2]; }}",
                f"={letter},r,l,0",
            )
            return builder.call(load, [bits, address, other])

        return array.dtype(types.uint32, array, types.uint32, array.dtype), emit
