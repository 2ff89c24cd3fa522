"""Loads, stores and addresses that the compiler does not generate by itself.

A *place* stands for an element of an array: its address, computed once. From there another element
takes one instruction, where an index takes two; in shared memory, at a constant distance, it takes
none, where an index takes up to four. On the simulator a place is an index.
"""

from llvmlite import ir

from kernels.device.api import SIMULATING, device, intrinsic, types, u32

ALIGNMENT = None if SIMULATING else 16
"""Bytes; of arrays in shared memory whose places are multiples of that."""

if SIMULATING:

    def computed_once(value):
        return value

    def place_of(array, index):
        return index

    def load_from(array, place, distance):
        return array[u32(place + distance)]

    def shared_place(array, index):
        return index

    def shared_after(array, place, distance):
        return u32(place + distance)

    def multiple_of(extent, place):
        return place

    def load_shared(array, place, distance):
        return array[u32(place + distance)]

    def store_shared(array, place, distance, value):
        array[u32(place + distance)] = value

    def load4(array, index):
        return tuple(array[u32(index + q)] for q in range(4))

    def load_if(present, array, place, distance, otherwise):
        return array[u32(place + distance)] if present else otherwise

else:
    _U32, _U64, _GLOBAL, _SHARED = ir.IntType(32), ir.IntType(64), 1, 3

    def _address(context, builder, array, argument, index, memory=_GLOBAL):
        """The address of an element, as a pointer to a kind of memory."""
        data = context.make_array(array)(context, builder, argument).data
        element = builder.gep(data, [builder.zext(index, _U64)])
        return builder.addrspacecast(element, ir.PointerType(data.type.pointee, memory))

    def _after(context, builder, array, place, distance):
        """The address ``distance`` elements after a place, as a pointer to global memory."""
        element = context.get_data_type(array.dtype)
        start = builder.inttoptr(place, ir.PointerType(element, _GLOBAL))
        return builder.gep(start, [builder.zext(distance, _U64)])

    def _after_shared(context, builder, array, place, distance):
        """The address ``distance`` elements after a place, as a pointer to shared memory."""
        element = context.get_data_type(array.dtype)
        start = builder.inttoptr(place, ir.PointerType(element, _SHARED))
        return builder.gep(start, [builder.zext(distance, _U64)])

    def _opaque(builder, value):
        """The value behind an optimisation barrier."""
        bits = value.type.width
        same = ir.InlineAsm(
            ir.FunctionType(value.type, [value.type]),
            f"mov.b{bits} $0, $1;",
            "=r,r" if bits == 32 else "=l,l",
        )
        return builder.call(same, [value])

    @intrinsic
    def computed_once(typing_context, value):
        """The uint32 ``value``, computed once and not, in parts, at each use."""

        def emit(context, builder, signature, arguments):
            return _opaque(builder, *arguments)

        return types.uint32(types.uint32), emit

    @intrinsic
    def place_of(typing_context, array, index):
        """The place of array[index]."""

        def emit(context, builder, signature, arguments):
            address = builder.ptrtoint(_address(context, builder, array, *arguments), _U64)
            # Without a barrier the compiler would add index and distance first
            return _opaque(builder, address)

        return types.uint64(array, types.uint32), emit

    @intrinsic
    def load_from(typing_context, array, place, distance):
        """The element ``distance`` elements after ``place``."""

        def emit(context, builder, signature, arguments):
            return builder.load(_after(context, builder, array, *arguments[1:]))

        return array.dtype(array, types.uint64, types.uint32), emit

    @intrinsic
    def shared_place(typing_context, array, index):
        """The place of array[index] in shared memory: its address."""

        def emit(context, builder, signature, arguments):
            address = _address(context, builder, array, *arguments, _SHARED)
            return _opaque(builder, builder.ptrtoint(address, _U32))

        return types.uint32(array, types.uint32), emit

    @intrinsic
    def shared_after(typing_context, array, place, distance):
        """The place ``distance`` elements after ``place`` in shared memory."""

        def emit(context, builder, signature, arguments):
            _, place, distance = arguments
            return builder.add(place, builder.mul(distance, _U32(array.dtype.bitwidth // 8)))

        return types.uint32(array, types.uint32, types.uint32), emit

    @intrinsic
    def multiple_of(typing_context, extent, place):
        """``place`` in shared memory, which the caller knows to be a multiple of ``extent`` bytes.

        A power of two: so neighbouring elements from there on can be loaded together.
        """

        def emit(context, builder, signature, arguments):
            extent, place = arguments
            remainder = builder.and_(place, builder.sub(extent, _U32(1)))
            builder.assume(builder.icmp_unsigned("==", remainder, _U32(0)))
            return place

        return types.uint32(types.uint32, types.uint32), emit

    @intrinsic
    def load_shared(typing_context, array, place, distance):
        """The element ``distance`` elements after ``place`` in shared memory."""

        def emit(context, builder, signature, arguments):
            return builder.load(_after_shared(context, builder, array, *arguments[1:]))

        return array.dtype(array, types.uint32, types.uint32), emit

    @intrinsic
    def store_shared(typing_context, array, place, distance, value):
        """Set the element ``distance`` elements after ``place`` in shared memory."""

        def emit(context, builder, signature, arguments):
            _, place, distance, value = arguments
            builder.store(value, _after_shared(context, builder, array, place, distance))
            return context.get_dummy_value()

        return types.void(array, types.uint32, types.uint32, array.dtype), emit

    @intrinsic
    def load4(typing_context, array, index):
        """The 4 elements from a multiple of 4 on, with one load."""

        def emit(context, builder, signature, arguments):
            first = _address(context, builder, array, *arguments)
            vector = ir.VectorType(first.type.pointee, 4).as_pointer(_GLOBAL)
            four = builder.load(builder.bitcast(first, vector), align=16)
            values = [builder.extract_element(four, ir.IntType(32)(q)) for q in range(4)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(array.dtype, 4)(array, types.uint32), emit

    @intrinsic
    def load_if(typing_context, present, array, place, distance, otherwise):
        """The element ``distance`` elements after ``place`` if ``present``, a uint32, is not 0, or
        ``otherwise``; predicated, without a branch."""

        def emit(context, builder, signature, arguments):
            bits, *element, other = arguments
            address = builder.ptrtoint(_after(context, builder, array, *element[1:]), _U64)
            letter, size = ("f", 32) if array.dtype == types.float32 else ("d", 64)
            load = ir.InlineAsm(
                ir.FunctionType(other.type, [bits.type, _U64, other.type]),
                f"{{ .reg .pred p; setp.ne.u32 p, $1, 0; @p ld.global.f{size} $0, [$2]; }}",
                f"={letter},r,l,0",
            )
            return builder.call(load, [bits, address, other])

        return array.dtype(types.uint32, array, types.uint64, types.uint32, array.dtype), emit


@device
def load_indexed(array, at, distance):
    return array[at + distance]


@device
def index_after(array, at, distance):
    return at + distance


BY_INDEX, BY_PLACE = (load_indexed, index_after), (load_shared, shared_after)
"""How elements of shared memory are found: (load, move on)."""
